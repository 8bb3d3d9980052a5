"""Known weights at work on this machine: served over HTTP for generating, or as a transformers folder for scoring.

Both start from the same GGUF file (`agents.models.weights`). Generation goes through llama.cpp, which is several times faster on a CPU;
scoring needs the log-probabilities of a prompt, which that server does not give, so the weights are unpacked once for transformers.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import os
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from agents.models.weights import KNOWN, ModelFile, Say, alone, cache, disk, resolve, silent, workshop
from leafmill.errors import WeightsError, unknown

PROMPT_CACHE = 512
"""MiB of memory for prompts whose slot went to another role; about 40 prefixes of 1,000 tokens with Qwen-0.5B."""

# -- serving


@dataclass(frozen=True)
class Server:
    """A running server. It asks for no API key: any will do."""

    base_url: str
    model: str
    slots: int
    "requests worked on at once; more wait in its queue"
    context: int
    "tokens, prompt and reply together, that one request may have"
    threads: int


@asynccontextmanager
async def serve(
    model: str, *, slots: int | None = None, context: int | None = None, threads: int | None = None, say: Say = silent
) -> AsyncIterator[Server]:
    """Serves the model on a free port of this machine until the block ends. Raises WeightsError.

    threads: one per core that this process may use, at most 8. They spin a little and then sleep (see llama), so a second thread
        helps alone and does no harm beside other work.
    slots: two per core, from 2 to 8. A slot keeps the prompt it saw last and computes only what differs in the next one. Each slot
        has to see a prefix once before that helps, so more slots start slower and then generate faster.
    context: tokens per slot; 4096 unless the known model says otherwise.
    """
    file = await asyncio.to_thread(resolve, model, say)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = threads or min(cores, 8)
    slots = slots or min(max(2 * cores, 2), 8)
    context = context or file.context
    settings: dict[str, str | int] = {"path": str(file.path), "name": file.name, "prompt_cache": PROMPT_CACHE}
    async with _process({**settings, "slots": slots, "context": context, "threads": threads}) as address:
        yield Server(f"{address}/v1", file.name, slots, context, threads)


@asynccontextmanager
async def _process(settings: dict[str, str | int]) -> AsyncIterator[str]:
    """The address of an `agents.models.llama` process that runs as long as the block. Raises WeightsError when it does not start."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise WeightsError("embedded models need more packages: pip install 'leafmill[local]'")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # modules beside the script do not shadow the standard library's
        str(Path(__file__).with_name("llama.py")),
        json.dumps(settings),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        start_new_session=True,  # Ctrl-C is for the run, which may still want to finish what is in flight
    )
    try:
        assert process.stdout is not None
        line = await process.stdout.readline()
        answer = json.loads(line) if line else {"error": f"its process ended with code {await process.wait()}"}
        if "error" in answer:
            why = "damaged, of an unknown kind, or too little memory"
            raise WeightsError(f"{settings['path']}: llama.cpp does not load it ({why}): {answer['error']}")
        yield answer["address"]
    finally:
        with suppress(ProcessLookupError):
            process.kill()  # nothing in it is worth waiting for
        await process.wait()


# -- scoring


def as_transformers(model: str, say: Say = silent) -> Path:
    """What `from_pretrained` takes for this model: a known one or another GGUF is unpacked once, into a folder of the cache.

    A folder, and a name on the hub that does not say GGUF, are returned as they are. Raises WeightsError.
    """
    if model not in KNOWN and not re.search(r"gguf$", model, re.IGNORECASE):
        if "/" in model or Path(model).is_dir():
            return Path(model).expanduser()
        raise WeightsError(f"{unknown('model', model, KNOWN)}; or give a folder of transformers, a .gguf, or owner/repo of the hub")
    file = resolve(model, say)
    folder = cache() / "transformers" / _folder_name(file)
    with disk(folder.parent), alone(folder, say):
        if not folder.is_dir():
            say(f"{file.name}: unpacking the weights for scoring, once")
            with workshop(folder) as room:
                _unpack(file.path, room / "unpacked")
                (room / "unpacked").rename(folder)
    return folder


def _folder_name(file: ModelFile) -> str:
    if file.name in KNOWN:
        return file.name
    stat = file.path.stat()
    seen = f"{file.path}:{stat.st_size}:{stat.st_mtime_ns}"
    return f"{file.name}-{hashlib.sha256(seen.encode()).hexdigest()[:12]}"


def _unpack(path: Path, folder: Path) -> None:
    """Write a GGUF's tokenizer and weights as a transformers folder, in bf16. Needs about 6 bytes of memory per parameter."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.bfloat16)
        # The weights are plain bf16 by now; what still says "quantised" would make saving refuse.
        model.hf_quantizer = None
        del model.config.quantization_config
        for mark in ("is_quantized", "quantization_method"):
            model.__dict__.pop(mark, None)
        model.save_pretrained(folder)
    except (ValueError, NotImplementedError, ImportError) as fault:
        raise WeightsError(f"{path}: transformers cannot unpack it: {fault}; give a folder of transformers for scoring") from fault
    finally:
        logging.set_verbosity(before)
        logging.enable_progress_bar()
