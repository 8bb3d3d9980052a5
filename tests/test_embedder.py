"""Embedders: real vectors from the embedded model, a tiny encoder on disk, and a real server that speaks /embeddings."""

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import pytest
from aiohttp import web

from filters.embedder import EndpointEmbedder, LocalEmbedder, Use3, open_embedder
from leafmill.errors import EndpointDownError, InputError, ReplyError, WeightsError, WrongKeyError


@pytest.fixture(scope="module")
def use3():
    return Use3()


async def test_a_chinese_paraphrase_is_nearer_than_another_subject(use3):
    one, paraphrase, other, english = await use3.encode(
        ["写一首关于大海的诗", "请创作一首描写海洋的诗歌", "解释如何更换汽车轮胎", "Write a poem about the sea."]
    )
    assert one @ paraphrase > 0.6 > one @ other
    assert one @ english > 0.6 > other @ english


async def test_vectors_have_length_one_and_keep_the_order_of_the_texts(use3):
    texts = [f"第{i}题：" + "把下面的句子翻译成英文。" * (i % 4) for i in range(40)] + ["", "🙂"]
    together = await use3.encode(texts)
    apart = np.concatenate([await use3.encode([text]) for text in texts])
    assert together.shape == (42, use3.dimension)
    assert together.dtype == np.float32
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert np.allclose(together, apart, atol=1e-6)


async def test_many_askers_at_once_get_what_one_asker_gets(use3):
    texts = ["a poem", "一首诗", "tyres " * 30, "poem"]
    parts = await asyncio.gather(*(use3.encode([text]) for text in texts))
    assert np.allclose(np.concatenate(parts), await use3.encode(texts), atol=1e-6)


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory):
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("weights") / "tiny-encoder"
    vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", *"abcdefghijklmnopqrstuvwxyz大海诗"])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_position_embeddings=32
    )
    BertModel(config).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return folder


async def test_a_local_encoder_is_a_mean_over_real_tokens_whatever_it_is_padded_to(encoder_folder):
    embedder = open_embedder(str(encoder_folder))
    texts = ["poem", "大海", "a much longer text about the sea " * 3, "z"]
    together = await embedder.encode(texts)
    apart = np.concatenate([await embedder.encode([text]) for text in texts])
    assert isinstance(embedder, LocalEmbedder)
    assert together.shape == (4, embedder.dimension) == (4, 16)
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert np.allclose(together, apart, atol=1e-5)
    await embedder.aclose()


async def test_no_texts_are_a_matrix_without_rows(use3, encoder_folder):
    for embedder in (use3, LocalEmbedder(encoder_folder)):
        assert (await embedder.encode([])).shape == (0, embedder.dimension)


@asynccontextmanager
async def server(reply):
    """A real /v1/embeddings server; `reply(inputs)` gives its status and body."""
    seen = []

    async def answer(request):
        body = await request.json()
        seen.append({"key": request.headers["Authorization"], **body})
        status, data = reply(body["input"])
        return web.json_response(data, status=status)

    app = web.Application()
    app.router.add_post("/v1/embeddings", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", seen
    finally:
        await runner.cleanup()


def lengths_backwards(texts):
    """Vectors (length, 1, 0), sent in the wrong order."""
    return 200, {"data": [{"index": i, "embedding": [len(text), 1, 0]} for i, text in enumerate(texts)][::-1]}


async def test_an_endpoint_is_asked_in_parts_and_its_rows_are_put_in_order():
    async with server(lengths_backwards) as (url, seen):
        embedder = EndpointEmbedder(url, "m", "sk-secret", size=2)
        assert (await embedder.encode([])).shape == (0, 3)
        rows = await embedder.encode(["a", "bb", "ccc"])
        await embedder.aclose()
    assert np.allclose(rows[:, 0] / rows[:, 1], [1, 2, 3])
    assert np.allclose(np.linalg.norm(rows, axis=1), 1)
    assert [len(ask["input"]) for ask in seen] == [1, 2, 1]
    assert {ask["key"] for ask in seen} == {"Bearer sk-secret"}


async def test_an_endpoint_is_held_to_its_dimension_and_to_one_vector_per_text():
    short = {"data": [{"index": 0, "embedding": [1.0]}]}
    for reply in (lengths_backwards, lambda texts: (200, short), lambda texts: (200, {"data": []}), lambda texts: (200, ["?"])):
        async with server(reply) as (url, _):
            embedder = EndpointEmbedder(url, "m", dimension=4)
            with pytest.raises(ReplyError, match=r"expected 4|embeddings for 1|did not answer"):
                await embedder.encode(["a"])
            await embedder.aclose()


async def test_secrets_stay_out_of_id_repr_and_errors():
    echo = {"error": {"message": "no such key: sk-secret"}}
    for status, kind in ((401, WrongKeyError), (400, Exception)):
        async with server(lambda texts, status=status: (status, echo)) as (url, _):
            embedder = open_embedder({"base_url": url, "model": "m", "api_key": "sk-secret"})
            with pytest.raises(kind) as fault:
                await embedder.encode(["a"])
            await embedder.aclose()
        for text in (embedder.id, repr(embedder), str(fault.value)):
            assert "sk-secret" not in text
    with pytest.raises(InputError, match=r"expected the secret in api_key") as fault:
        EndpointEmbedder("http://me:sk-secret@host/v1", "m")
    assert "sk-secret" not in str(fault.value)


async def test_an_endpoint_that_is_not_there_is_down_and_not_slow():
    async with server(lengths_backwards) as (url, _):
        pass
    embedder = EndpointEmbedder(url, "m")
    with pytest.raises(EndpointDownError):
        await embedder.encode(["a"])
    await embedder.aclose()


@pytest.mark.parametrize(
    "spec", ["usem4", "", 7, {"model": "m"}, {"base_url": "x.com", "model": "m"}, {"base_url": "http://x", "mdel": "m"}]
)
def test_a_spec_that_names_no_embedder_says_what_was_expected(spec):
    with pytest.raises(InputError, match=r"expected|did you mean"):
        open_embedder(spec)


def test_a_folder_without_weights_says_what_was_looked_for(tmp_path):
    for spec in (tmp_path / "gone", tmp_path):
        with pytest.raises(WeightsError, match=str(tmp_path)):
            open_embedder(spec)
