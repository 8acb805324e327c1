"""Each mode of the real fusion, gone on with from any journal: finished calls are recalled and the answers the same."""

from __future__ import annotations

import json

import pytest
from batch_fakes import logged, read_lines, recipe_for, scripted_engines, write_rows
from crash_run import what_was_said

from local_fusion.batch.options import BatchOptions
from local_fusion.batch.run import run_batch
from local_fusion.engines.scripted import ScriptedEngine
from local_fusion.types import MODES

ROWS = 12
SCRIPT = "answers: ['The answer is 4.', 'The answer is 5.', 'It is not known.'], fail_rate: 0.05"
QUICK = BatchOptions(journal_sync_s=0.01, in_flight=4)


def by_id(folder) -> dict[str, object]:
    return {
        line["custom_id"]: what_was_said(line)
        for name in ("output", "errors")
        for line in read_lines(folder / f"{name}.jsonl")
    }


@pytest.mark.parametrize("share", [0.4, 1.0])
@pytest.mark.parametrize("mode", MODES)
async def test_a_mode_goes_on_from_its_journal(tmp_path, mode, share):
    source, folder, log = write_rows(tmp_path / "in.jsonl", ROWS), tmp_path / "out", tmp_path / "calls"
    recipe = recipe_for(mode, SCRIPT)
    summary = await run_batch(source, folder, scripted_engines(SCRIPT), recipe, QUICK)
    assert summary.status == "finished"
    assert summary.succeeded + summary.failed == ROWS
    before = by_id(folder)
    calls = [line for line in (folder / "journal.jsonl").read_bytes().splitlines(True) if b'"end":' not in line[:8]]
    kept = calls[: int(len(calls) * share)]
    (folder / "journal.jsonl").write_bytes(b"".join(kept))
    known = {json.loads(line)["id"] for line in kept if line.startswith(b'{"call":')}
    await run_batch(source, folder, logged(scripted_engines(SCRIPT), log), recipe, QUICK)
    started = {json.loads(line) for line in log.read_text().splitlines()}
    assert by_id(folder) == before
    assert not known & started
    if share == 1.0 and mode not in ("vote", "debate", "auto"):  # these abort calls, which then say nothing
        assert not started


async def test_the_receipt_is_in_the_body(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 4), tmp_path / "out"
    recipe = recipe_for("merge", "delay_s: 0.0")
    summary = await run_batch(source, folder, scripted_engines(), recipe, QUICK)
    fusion = read_lines(folder / "output.jsonl")[0]["response"]["body"]["fusion"]
    assert fusion["status"] == "ok"
    assert fusion["mode"] == "merge"
    assert set(fusion["analysis"]) == {
        "consensus",
        "contradictions",
        "partial_coverage",
        "unique_insights",
        "blind_spots",
    }
    assert fusion["verdict"]["kept"] in ("written", "answer")
    assert fusion["usage"]["panel"]["calls"] == 3
    assert len(fusion["calls"]) == sum(stage["calls"] for stage in fusion["usage"].values())
    assert summary.marks["guarded"] == 4
    assert summary.modes == {"merge": 4}


async def test_an_engine_is_asked_what_it_is_once_a_run(tmp_path):
    class Asked(ScriptedEngine):
        times = 0

        async def info(self):
            Asked.times += 1
            return await super().info()

    source = write_rows(tmp_path / "in.jsonl", ROWS)
    engines = {name: Asked(name, engine.settings) for name, engine in scripted_engines(SCRIPT).items()}
    await run_batch(source, tmp_path / "out", engines, recipe_for("best-of", SCRIPT), BatchOptions(in_flight=1))
    assert 1 <= Asked.times <= len(engines)
