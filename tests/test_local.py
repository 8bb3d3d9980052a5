"""Embedded models at work: the refusals quickly, and one real model over real HTTP."""

import asyncio
import json
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from agents.models import local
from agents.models.local import as_transformers, serve
from leafmill.errors import WeightsError

pytest.importorskip("xllamacpp")


async def test_a_file_that_only_starts_like_a_gguf_does_not_load(tmp_path: Path) -> None:
    path = tmp_path / "torn.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(WeightsError, match=r"torn\.gguf: llama\.cpp does not load it"):
        async with serve(str(path)):
            pass


async def test_an_unknown_model_is_not_served() -> None:
    with pytest.raises(WeightsError, match="did you mean 'smollm2-135m'"):
        async with serve("smollm-135m"):
            pass


def test_what_is_not_gguf_goes_to_transformers_as_it_is(tmp_path: Path) -> None:
    assert as_transformers(str(tmp_path)) == tmp_path
    assert as_transformers("Qwen/Qwen3-0.6B") == Path("Qwen/Qwen3-0.6B")
    with pytest.raises(WeightsError, match="unknown model"):
        as_transformers("smollm")


@pytest.mark.slow
def test_the_weights_are_unpacked_once_for_transformers() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = as_transformers("smollm2-135m")
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    texts = ("The sky is blue and the grass is green.", "Sky the blue is.")
    right, wrong = (model(ids, labels=ids).loss.detach().item() for ids in (tokenizer(t, return_tensors="pt").input_ids for t in texts))
    assert right < wrong - 1
    assert as_transformers("smollm2-135m") == folder


@pytest.mark.slow
async def test_a_real_model_answers_within_a_schema_and_its_port_closes() -> None:
    import openai

    schema = {
        "type": "object",
        "properties": {"instruction": {"type": "string", "maxLength": 80}, "difficulty": {"type": "integer", "minimum": 1, "maximum": 5}},
        "required": ["instruction", "difficulty"],
        "additionalProperties": False,
    }
    async with serve("smollm2-135m", slots=2) as server, openai.AsyncOpenAI(base_url=server.base_url, api_key="none") as client:
        assert [model.id async for model in client.models.list()] == ["smollm2-135m"]
        reply = await client.chat.completions.create(
            model=server.model,
            messages=[{"role": "user", "content": "Write one short task about water."}],
            response_format={"type": "json_schema", "json_schema": {"name": "task", "strict": True, "schema": schema}},
            max_tokens=200,
            seed=7,
        )
    answer = json.loads(reply.choices[0].message.content or "")
    assert set(answer) == {"instruction", "difficulty"}
    assert 1 <= answer["difficulty"] <= 5
    assert not listens(server.base_url)


@pytest.mark.slow
async def test_a_body_that_fails_in_the_middle_of_a_reply_stops_the_server_at_once() -> None:
    import openai

    seen: list[local.Server] = []

    async def fail_while_it_writes() -> None:
        async with serve("smollm2-135m") as server:
            seen.append(server)
            client = openai.AsyncOpenAI(base_url=server.base_url, api_key="none", max_retries=0)
            story: list[Any] = [{"role": "user", "content": "Tell a very long story."}]
            async with asyncio.timeout(1):
                await client.chat.completions.create(model=server.model, messages=story, max_tokens=1500, extra_body={"ignore_eos": True})

    with pytest.raises(TimeoutError):
        await fail_while_it_writes()
    assert not listens(seen[0].base_url)


def listens(base_url: str) -> bool:
    address = urlsplit(base_url)
    with socket.socket() as probe:
        return probe.connect_ex((address.hostname or "", address.port or 0)) == 0
