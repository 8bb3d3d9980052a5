"""Weights of transformers models: loaded from a folder or a hub name, in a dtype and on a device, with errors that say what to do."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal, NamedTuple

from leafmill.errors import InputError, WeightsError, unknown


class Weights(NamedTuple):
    """A transformers model in evaluation mode, its tokenizer, `name@revision`, and the dtype it computes in."""

    model: Any
    tokenizer: Any
    id: str
    dtype: str


def load_weights(
    path_or_name: str | Path,
    kind: Literal["AutoModel", "AutoModelForCausalLM", "AutoModelForSequenceClassification"],
    device: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
) -> Weights:
    """Loads a folder or a hub name, without progress bars. WeightsError says what was looked for and what to do."""
    spec = str(path_or_name)
    folder = Path(spec).expanduser()
    here = (folder / "config.json").is_file()
    looks_like_a_path = spec.startswith((".", "/", "~")) or spec.count("/") > 1 or isinstance(path_or_name, Path) or folder.exists()
    if looks_like_a_path and not here:
        raise WeightsError(
            f"no model in {spec!r}: looked for a folder with config.json, *.safetensors and tokenizer.json. "
            "Give such a folder (save_pretrained writes one) or a name of the Hugging Face hub, as `org/name`"
        )
    import torch
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if threads is not None:
        torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype == "auto":
        dtype = "bfloat16" if device.startswith("cuda") and torch.cuda.is_bf16_supported() else "float32"
    if not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise InputError(unknown("dtype", dtype, ["auto", "bfloat16", "float16", "float32"]))
    source = str(folder) if here else spec
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source)
        model, report = getattr(transformers, kind).from_pretrained(source, dtype=getattr(torch, dtype), output_loading_info=True)
    except (OSError, ValueError) as fault:
        raise WeightsError(
            f"no usable model at {spec!r}, looked for as a {'folder' if here else 'name on the Hugging Face hub'}: "
            f"{' '.join(str(fault).split())[:300]} Check the name and the connection, or give a folder that save_pretrained wrote"
        ) from fault
    if report["missing_keys"]:
        some = ", ".join(sorted(report["missing_keys"])[:3])
        raise WeightsError(
            f"the weights at {spec!r} lack {len(report['missing_keys'])} tensors that {kind} needs ({some}): the wrong model?"
        )
    revision = _fingerprint(folder) if here else str(getattr(model.config, "_commit_hash", None) or "unknown")[:12]
    return Weights(model.to(device).eval(), tokenizer, f"{folder.resolve().name if here else spec}@{revision}", dtype)


def load_tokenizer(path_or_name: str | Path) -> Any:
    """A tokenizer alone, from a folder or a hub name. Raises WeightsError."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    folder = Path(path_or_name).expanduser()
    try:
        return transformers.AutoTokenizer.from_pretrained(str(folder) if folder.is_dir() else str(path_or_name))
    except (OSError, ValueError) as fault:
        raise WeightsError(
            f"no tokenizer at {str(path_or_name)!r}: {' '.join(str(fault).split())[:300]} "
            "Give a folder with tokenizer.json, or a name of the Hugging Face hub, as `org/name`"
        ) from fault


def _fingerprint(folder: Path) -> str:
    """Tells the contents of model folders apart: names, sizes, and the first and last MiB of each file of weights or settings."""
    known = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in {".safetensors", ".bin", ".json", ".model", ".jinja"}):
        size = path.stat().st_size
        known.update(f"{path.name}:{size}".encode())
        with path.open("rb") as file:
            known.update(file.read(2**20))
            file.seek(max(0, size - 2**20))
            known.update(file.read())
    return known.hexdigest()[:12]
