"""A run whose circumstances change: its input moves or grows, versions are others, a stop comes with the last row."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from batch_fakes import read_lines, recipe_for, scripted_engines, small_fuse, write_rows

from local_fusion.batch.options import BatchOptions
from local_fusion.batch.progress import Summary
from local_fusion.batch.run import run_batch

RECIPE = recipe_for()
QUICK = BatchOptions(journal_sync_s=0.01, grace_s=5.0)


async def run(source: Path, folder: Path, options: BatchOptions = QUICK) -> Summary:
    return await run_batch(source, folder, scripted_engines(), RECIPE, options, fuse_with=small_fuse)


async def test_an_input_that_was_moved_is_known_by_its_present_path(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 4), tmp_path / "out"
    await run(source, folder, replace(QUICK, limit=2))
    moved = source.rename(tmp_path / "moved.jsonl")
    await run(moved, folder)
    described = json.loads((folder / "run.json").read_text())["input"]
    assert (described["path"], described["rows"]) == (str(moved), 4)


async def test_versions_are_of_the_sessions_that_ran_rows(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 6), tmp_path / "out"

    async def noted(version: str, limit: int) -> tuple[str, list[str]]:
        await run(source, folder, replace(QUICK, limit=limit, versions={"vllm": version}))
        data = json.loads((folder / "run.json").read_text())
        return data["versions"]["vllm"], [later["vllm"] for later in data.get("later_versions", ())]

    assert await noted("1", 2) == ("1", [])
    assert await noted("2", 2) == ("1", [])
    assert await noted("1", 3) == ("1", [])
    assert await noted("3", 4) == ("1", ["3"])
    assert await noted("3", 5) == ("1", ["3"])
    assert await noted("4", 5) == ("1", ["3"])
    assert await noted("5", 6) == ("1", ["3", "5"])


async def test_an_input_that_grows_meanwhile_is_not_read_on(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 6), tmp_path / "out"

    async def fuse(request, recipe, engines):
        if request.id == "row-0":
            write_rows(source, 9)
        return await small_fuse(request, recipe, engines)

    summary = await run_batch(source, folder, scripted_engines(), RECIPE, replace(QUICK, in_flight=1), fuse_with=fuse)
    assert (summary.status, summary.total, summary.succeeded) == ("finished", 6, 6)
    lines = read_lines(folder / "output.jsonl")
    assert sorted(line["custom_id"] for line in lines) == [f"row-{n}" for n in range(6)]


@pytest.mark.parametrize(("rows", "status"), [(4, "finished"), (5, "interrupted")])
async def test_a_stop_while_the_last_rows_end_leaves_nothing_to_go_on_with(tmp_path, rows, status):
    source, folder, stop = write_rows(tmp_path / "in.jsonl", rows), tmp_path / "out", asyncio.Event()

    async def fuse(request, recipe, engines):
        fused = await small_fuse(request, recipe, engines)
        if request.id == "row-3":
            stop.set()
        return fused

    options = replace(QUICK, in_flight=1, stop=stop)
    summary = await run_batch(source, folder, scripted_engines(), RECIPE, options, fuse_with=fuse)
    assert (summary.status, summary.succeeded) == (status, 4)
    assert json.loads((folder / "run.json").read_text())["status"] == status
    assert (await run(source, folder)).succeeded == rows
