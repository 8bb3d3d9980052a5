"""What scoring a row costs, beside the usual way: one row at a time, two passes, all logits.

    python -m bench.ifd                                  the CPU: Llama of 135M, random weights, rows of about 66 ids a pass
    python -m bench.ifd --model FOLDER --data rows.jsonl a real model on real rows (Alpaca's fields, or Self-Instruct's seeds)
    python -m bench.ifd --shape 0.5b                     on a GPU: rows of about 300 ids (7b: the larger one; --compile fuses what is small)

Needs torch and transformers, nothing else. All ways are asked in turn, chunk by chunk, about the same rows, so that what disturbs
the machine disturbs all; on a CPU the processor's seconds of one thread count, on a GPU the clock's. Values are compared with float64.
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import gc
import json
import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from torch.nn.functional import cross_entropy

from filters.scoring.packing import PackedNats
from filters.scoring.spans import Span

# Llama-shaped: hidden, feed-forward, layers, heads, key heads, vocabulary, head tied to the embedding
SHAPES = {
    "135m": (576, 1536, 30, 9, 3, 49152, True),
    "0.5b": (896, 4864, 24, 14, 2, 151936, True),
    "7b": (4096, 11008, 32, 32, 32, 32000, False),
}
Score = Callable[[Sequence[Span]], Sequence[float]]


class Ids(NamedTuple):
    """A prompt and an answer in ids."""

    prompt: list[int]
    answer: list[int]


def main() -> None:
    args = _arguments()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    if args.threads:
        torch.set_num_threads(args.threads)
    cuda = args.device.startswith("cuda")
    if not cuda:
        _give_back(2**20)
    native = _model(args, torch.bfloat16 if cuda else torch.float32)
    vocabulary = native.config.vocab_size
    chosen = random.Random(args.seed)
    rows = _texts(args) if args.data else [_random_row(chosen, args.mean or (300 if cuda else 66), vocabulary) for _ in range(args.rows)]
    counted = rows[: args.reference_rows or (256 if cuda else len(rows))]
    few = _spans(min(rows[:64], key=lambda row: abs(len(row.prompt) + len(row.answer) - 100))) + _spans(rows[0])
    truth = _truth(native, few)  # first, since eight bytes a weight may be all that the device holds
    dtypes = [name for name in (("bfloat16",) if cuda else ("float32", "bfloat16")) if name in args.dtype]
    found: dict[str, Any] = {"device": _device(cuda), "torch": torch.__version__, "model": args.model or args.shape, "rows": len(rows)}
    found["ids per pass"] = sum(len(span.ids) for row in rows for span in _spans(row)) / 2 / len(rows)
    found["matmul peak, TFLOP/s"] = {name: _peak(args.device, name) for name in {*dtypes, "bfloat16" if cuda else "float32"}}
    ways: dict[str, Score] = {"reference": _reference(native)}
    engines = {name: PackedNats(copy.deepcopy(native).to(getattr(torch, name)), max_tokens=args.max_tokens) for name in dtypes}
    for engine in engines.values():
        if args.compile and cuda:
            engine.compile()
        ways[f"{engine.dtype}, {engine.info}"] = engine
    body, head = _sizes(native)

    seconds, memory = dict.fromkeys(ways, 0.0), {}
    values: dict[str, list[float]] = {name: [] for name in ways}
    for name, way in ways.items():
        way(_all(counted[: args.chunk]))  # what is built at the first call is not counted
        memory[name] = _memory(lambda way=way: way(_all(counted[: args.chunk])), cuda)
    if not cuda:
        _give_back(2**25)  # as it is by itself after a while, and faster
    for chunk in _chunks(counted, args.chunk):
        for name, way in ways.items():
            took, scores = _timed(lambda way=way, chunk=chunk: way(_all(chunk)), cuda)
            seconds[name] += took
            values[name] += scores
    table = {}
    for name, way in ways.items():
        ours, rate = name != "reference", len(counted) / seconds[name]
        if ours and len(counted) < len(rows):  # the reference is timed on a part, since it is slow; a GPU wants more to chew on
            took, _ = _timed(lambda way=way: way(_all(rows)), cuda)
            rate = len(rows) / took
        fed = sum(len(span.ids) - 1 for row in rows for span in _spans(row)) / len(rows)
        scored = 2 * sum(len(row.answer) for row in rows) / len(rows)
        flops = 2 * (body * fed + head * (scored if ours else fed)) * rate
        peak = found["matmul peak, TFLOP/s"]["bfloat16" if cuda or "bfloat16" in name else "float32"]
        table[name] = {
            "rows/s": rate,
            "times reference": rate * seconds["reference"] / len(counted),
            "of matmul peak": flops / 1e12 / peak,
            "MB above weights": memory[name] / 1e6,
            "loss off float64": max(abs(a - b) for a, b in zip(way(few), truth, strict=True)),
            "IFD off reference": max(off := [abs(a - b) for a, b in zip(_ratios(values[name]), _ratios(values["reference"]), strict=True)]),
            "on average": sum(off) / len(off),
        }
    found["ways"] = table
    found[f"{args.answers} answers of 53 ids to a prompt of 300"] = {
        name: _sharing(engine, chosen, vocabulary, args.answers, 16 if cuda else 1, cuda) for name, engine in engines.items()
    }
    if args.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        _show(found)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a folder or hub name; else random weights of --shape")
    parser.add_argument("--shape", choices=SHAPES, default="135m")
    parser.add_argument("--data", type=Path, help="JSONL with instruction, input, output; needs --model")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", nargs="+", default=["float32", "bfloat16"], help="of ours; a GPU is asked in bfloat16 only")
    parser.add_argument("--rows", type=int, help="default 64 on a CPU, 4096 on a GPU")
    parser.add_argument("--reference-rows", type=int, help="rows that the reference is timed on; default all, on a GPU 256")
    parser.add_argument("--mean", type=int, help="ids per pass of random rows; default 66 on a CPU, 300 on a GPU")
    parser.add_argument("--answers", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, help="ids in one pass of ours")
    parser.add_argument("--chunk", type=int, help="rows asked at once; default 16 on a CPU, 128 on a GPU")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="torch.compile the layers of ours (GPU)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    cuda = args.device.startswith("cuda")
    args.rows = args.rows or (4096 if cuda else 64)
    args.chunk = args.chunk or (128 if cuda else 16)
    if args.data and not args.model:
        parser.error("--data needs --model: random weights come without a tokenizer")
    return args


def _model(args: argparse.Namespace, dtype: torch.dtype) -> Any:
    if args.model:
        return transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype).to(args.device).eval()
    hidden, inner, layers, heads, keys, vocabulary, tied = SHAPES[args.shape]
    config = transformers.LlamaConfig(
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=keys,
        vocab_size=vocabulary,
        tie_word_embeddings=tied,
        max_position_embeddings=4096,
        initializer_range=0.04,  # twice the usual: predictions that are all alike would prove nothing
        dtype=dtype,
    )
    torch.manual_seed(args.seed)
    torch.set_default_dtype(dtype)
    with torch.device(args.device):
        model = transformers.LlamaForCausalLM(config).eval()
    torch.set_default_dtype(torch.float32)
    return model


def _random_row(chosen: random.Random, mean: int, vocabulary: int) -> Ids:
    """Lengths as instruction data has them: log-normal, so a few rows are long. A pass has `mean` ids on average, (p + 2a) / 2."""
    prompt, answer = (min(1500, max(10, round(share * mean * chosen.lognormvariate(-0.32, 0.8)))) for share in (0.6, 0.7))
    return Ids(*([chosen.randrange(3, vocabulary) for _ in range(n)] for n in (prompt, answer)))


def _texts(args: argparse.Namespace) -> list[Ids]:
    tokenizer = transformers.AutoTokenizer.from_pretrained(args.model)
    rows = []
    for line in args.data.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        row |= row.get("instances", [{}])[0]  # as Self-Instruct's seeds have it
        prompt = "\n".join(text for text in (row["instruction"], row.get("input"), "") if text is not None)
        ids = Ids(*tokenizer([prompt, row["output"]], add_special_tokens=False)["input_ids"])
        if len(ids.answer) >= 10 and len(ids.prompt) + len(ids.answer) < 1024:
            rows.append(ids)
    random.Random(args.seed).shuffle(rows)
    return rows[: args.rows]


def _spans(row: Ids) -> list[Span]:
    n = len(row.answer)
    return [Span((0, *row.prompt, *row.answer), n), Span((0, *row.answer), n)]


def _all(rows: Sequence[Ids]) -> list[Span]:
    return [span for row in rows for span in _spans(row)]


def _chunks(rows: list[Ids], size: int) -> Iterator[list[Ids]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))


def _ratios(losses: Sequence[float]) -> list[float]:
    return [cond / uncond for cond, uncond in zip(losses[::2], losses[1::2], strict=True)]


def _reference(model: Any) -> Score:
    """The usual way, in the dtype of the model, attention as transformers chooses it."""

    @torch.inference_mode()
    def score(spans: Sequence[Span]) -> list[float]:
        found = []
        for span in spans:
            ids = torch.tensor([span.ids], device=model.device)
            logits = model(ids).logits[0, :-1].float()
            found.append(float(cross_entropy(logits[-span.n :], ids[0, -span.n :])))
        return found

    return score


@torch.inference_mode()
def _truth(model: Any, spans: Sequence[Span]) -> list[float]:
    exact = copy.deepcopy(model).double()
    found = []
    for span in spans:
        ids = torch.tensor([span.ids], device=model.device)
        logits = exact(ids).logits[0, -span.n - 1 : -1]
        found.append(float(cross_entropy(logits, ids[0, -span.n :])))
    del exact
    gc.collect()
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
    return found


def _sharing(engine: PackedNats, chosen: random.Random, vocabulary: int, answers: int, prompts: int, cuda: bool) -> dict[str, float]:
    """One prompt with several answers, beside as many prompts of that length with one each: those begin with another id."""

    def ids(n: int) -> tuple[int, ...]:
        return tuple(chosen.randrange(3, vocabulary) for _ in range(n))

    shared, apart, direct = [], [], []
    for _ in range(prompts):
        prompt = (0, *ids(300))
        for i in range(answers):
            answer = ids(53)
            shared.append(Span(prompt + answer, 53))
            apart.append(Span((i + 3, *prompt[1:], *answer), 53))
            direct.append(Span((0, *answer), 53))
    took = dict.fromkeys(("shared", "apart", "direct"), 0.0)
    for _ in range(3 if cuda else 1):
        for name, spans in (("shared", shared), ("apart", apart), ("direct", direct)):
            took[name] += _timed(lambda spans=spans: engine(spans), cuda)[0]
    alone = [engine([span])[0] for span in shared[:answers]]
    return {
        "times unshared": took["apart"] / took["shared"],
        "times unshared, with the passes without prompt": (took["apart"] + took["direct"]) / (took["shared"] + took["direct"]),
        "loss off one by one": max(abs(a - b) for a, b in zip(engine(shared), alone, strict=False)),
    }


def _timed(work: Callable[[], Sequence[float]], cuda: bool) -> tuple[float, list[float]]:
    clock = time.perf_counter if cuda else time.process_time
    if cuda:
        torch.cuda.synchronize()
    start = clock()
    found = list(work())
    return clock() - start, found


def _memory(work: Callable[[], object], cuda: bool) -> float:
    """The most bytes in use during `work`, above what is in use before."""
    gc.collect()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # sets the kernel's high-water mark to what is used now
    before = _resident("VmRSS")
    work()
    return _resident("VmHWM") - before


def _give_back(size: int) -> None:
    """Has the allocator give arrays of `size` bytes and more back when they are freed, rather than keep holes that would be counted."""
    ctypes.CDLL("libc.so.6").mallopt(-3, size)  # M_MMAP_THRESHOLD


def _resident(name: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * float(line.split()[1]) for line in lines if line.startswith(name))


def _peak(device: str, dtype: str) -> float:
    """TFLOP/s of one large product."""
    cuda = device.startswith("cuda")
    n = 8192 if cuda else 2048
    a, b = (torch.randn(n, n, device=device).to(getattr(torch, dtype)) for _ in range(2))
    took = []
    for _ in range(20 if cuda else 4):
        seconds, _ = _timed(lambda: (a @ b)[0, :1].tolist(), cuda)
        took.append(seconds)
    return 2 * n**3 / min(took) / 1e12


def _sizes(model: Any) -> tuple[int, int]:
    """Weights that every id is multiplied with, and those of the projection onto the vocabulary."""
    head = model.get_output_embeddings().weight
    tables = {id(head), id(model.get_input_embeddings().weight)}
    return sum(p.numel() for p in model.parameters() if p.dim() == 2 and id(p) not in tables), head.numel()


def _device(cuda: bool) -> str:
    if cuda:
        return torch.cuda.get_device_name()
    names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if "model name" in line]
    return f"{names[0] if names else 'CPU'}, {torch.get_num_threads()} thread(s)"


def _show(found: dict[str, Any]) -> None:
    peaks = ", ".join(f"{name} {rate:.3g}" for name, rate in found["matmul peak, TFLOP/s"].items())
    columns = list(next(iter(found["ways"].values())))
    wide = max(map(len, found["ways"]))
    lines = [
        f"{found['model']} on {found['device']}, torch {found['torch']}; {found['rows']} rows, {found['ids per pass']:.0f} ids a pass",
        f"matmul peak, TFLOP/s: {peaks}",
        "",
        " ".join([" " * wide, *(f"{name:>{max(9, len(name))}}" for name in columns)]),
    ]
    for name, values in found["ways"].items():
        lines.append(" ".join([f"{name:{wide}}", *(f"{_short(values[column]):>{max(9, len(column))}}" for column in columns)]))
    name, said = list(found.items())[-1]
    lines += ["", f"{name}:"]
    lines += [f"  {dtype}: " + ", ".join(f"{what} {_short(value)}" for what, value in values.items()) for dtype, values in said.items()]
    sys.stdout.write("\n".join(lines) + "\n")


def _short(value: float) -> str:
    return "0" if value == 0 or math.isnan(value) else f"{value:.1e}" if abs(value) < 0.01 else f"{value:.3g}"


if __name__ == "__main__":
    main()
