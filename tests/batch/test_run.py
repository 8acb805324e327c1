"""A run: every row once, in OpenAI's form, resumed, stopped, refused."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from batch_fakes import logged, read_lines, recipe_for, scripted_engines, small_fuse, write_rows

from local_fusion.batch.journal import journal_retry
from local_fusion.batch.options import BatchOptions
from local_fusion.batch.past import read_past
from local_fusion.batch.run import run_batch
from local_fusion.engines.scripted import ScriptedEngine
from local_fusion.errors import CallAborted, EngineDied, InputError

RECIPE = recipe_for()
QUICK = BatchOptions(journal_sync_s=0.01, grace_s=5.0)


def ended(folder: Path) -> Counter:
    """How often each id has a line in the output or the errors."""
    return Counter(line["custom_id"] for name in ("output", "errors") for line in read_lines(folder / f"{name}.jsonl"))


def once(count: int) -> Counter:
    return Counter(f"row-{n}" for n in range(count))


async def until(is_so: Callable[[], bool]) -> None:
    """Wait, at most half a minute, for something the run does by itself."""
    for _ in range(6_000):
        if is_so():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen")


async def run(source: Path, folder: Path, engines=None, options=QUICK, **more):
    return await run_batch(source, folder, engines or scripted_engines(), RECIPE, options, fuse_with=small_fuse, **more)


async def test_every_row_ends_once_in_openais_form(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 30), tmp_path / "out"
    summary = await run(source, folder)
    assert (summary.status, summary.exit_code) == ("finished", 0)
    assert (summary.total, summary.succeeded, summary.failed, summary.resumed) == (30, 30, 0, 0)
    assert ended(folder) == once(30)
    line = read_lines(folder / "output.jsonl")[0]
    assert set(line) == {"id", "custom_id", "response", "error"}
    assert line["error"] is None
    assert line["response"]["status_code"] == 200
    body = line["response"]["body"]
    assert body["object"] == "chat.completion"
    assert body["choices"][0]["message"]["content"]
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert [entry["model"] for entry in body["fusion"]["responses"]] == ["ada", "bob", "cyd"]
    assert summary.members["bob"].answers == 30
    assert summary.members["ada"].calls == 60
    assert summary.tokens.completion == sum(
        one["response"]["body"]["usage"]["completion_tokens"] for one in read_lines(folder / "output.jsonl")
    )


async def test_run_json_describes_the_run(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 3), tmp_path / "out"
    await run(source, folder, options=replace(QUICK, seed=5, versions={"vllm": "x"}))
    data = json.loads((folder / "run.json").read_text())
    assert data["status"] == "finished"
    assert data["input"]["rows"] == 3
    assert data["identity"]["fusion"] == "trio"
    assert data["identity"]["seed"] == 5
    assert data["counts"] == {"done": 3, "succeeded": 3, "failed": 0}
    assert data["versions"]["vllm"] == "x"
    assert data["sessions"] == 1


async def test_bad_rows_become_records_and_the_rest_goes_on(tmp_path):
    source, folder = tmp_path / "in.jsonl", tmp_path / "out"
    source.write_bytes(
        b'{"id":"a","prompt":"1"}\n{broken\n\xff\xfe\n{"id":"a","prompt":"2"}\n\n{"id":"c","prompt":"3","n":2}\nplain\n'
    )
    summary = await run(source, folder)
    assert summary.exit_code == 1
    assert (summary.total, summary.succeeded, summary.failed) == (6, 2, 4)
    errors = {line["custom_id"]: line for line in read_lines(folder / "errors.jsonl")}
    assert errors["line-2"]["error"]["code"] == "invalid_json"
    assert errors["line-2"]["error"]["line"] == 2
    assert errors["line-3"]["error"]["code"] == "invalid_utf8"
    assert errors["a"]["error"]["code"] == "duplicate_id"
    assert errors["c"]["error"] is None
    assert errors["c"]["response"]["status_code"] == 400
    assert errors["c"]["response"]["body"]["error"]["param"] == "n"
    assert [line["custom_id"] for line in read_lines(folder / "output.jsonl")] == ["a", "line-7"]
    assert summary.failures == {"invalid_json": 1, "invalid_utf8": 1, "duplicate_id": 1, "unsupported_field": 1}


async def test_a_finished_run_runs_nothing_again(tmp_path):
    source, folder, log = write_rows(tmp_path / "in.jsonl", 10), tmp_path / "out", tmp_path / "calls"
    await run(source, folder)
    before = (folder / "output.jsonl").read_bytes()
    summary = await run(source, folder, logged(scripted_engines(), log))
    assert log.read_bytes() == b""
    assert (folder / "output.jsonl").read_bytes() == before
    assert (summary.status, summary.resumed, summary.succeeded) == ("finished", 10, 10)
    assert summary.members["ada"].calls == 20


@pytest.mark.parametrize("share", [0.0, 0.1, 0.33, 0.5, 0.77, 0.999, 1.0])
@pytest.mark.parametrize("torn_output", [False, True])
async def test_a_journal_cut_anywhere_is_gone_on_from(tmp_path, share, torn_output):
    """What a kill leaves: a journal that ends anywhere, an output that is further, perhaps in half a line."""
    source, folder, log = write_rows(tmp_path / "in.jsonl", 40), tmp_path / "out", tmp_path / "calls"
    await run(source, folder, options=replace(QUICK, in_flight=7, journal_sync_s=0.001))
    journal = folder / "journal.jsonl"
    cut = int(journal.stat().st_size * share)
    kept = journal.read_bytes()[:cut]
    journal.write_bytes(kept)
    if torn_output:
        with (folder / "output.jsonl").open("ab") as handle:
            handle.write(b'{"id":"batch_req_torn","custom')
    known = {json.loads(line)["id"] for line in kept.split(b"\n")[:-1] if line.startswith(b'{"call":')}
    await run(source, folder, logged(scripted_engines(), log))
    assert ended(folder) == once(40)
    started = [json.loads(line) for line in log.read_text().splitlines()]
    assert len(started) == len(set(started))
    assert not known & set(started)
    assert len(known) + len(started) == 160


async def test_stop_finishes_the_rows_under_way_and_the_next_run_goes_on(tmp_path):
    source, folder, log = write_rows(tmp_path / "in.jsonl", 60), tmp_path / "out", tmp_path / "calls"
    stop = asyncio.Event()
    engines = logged(scripted_engines("delay_s: 0.02"), log)
    task = asyncio.create_task(run(source, folder, engines, replace(QUICK, in_flight=8, stop=stop)))
    await until(lambda: log.read_bytes().count(b"\n") >= 60)
    stop.set()
    summary = await task
    assert (summary.status, summary.exit_code) == ("interrupted", 75)
    assert 0 < summary.succeeded < 60
    assert log.read_bytes().count(b"\n") == 4 * summary.succeeded
    assert json.loads((folder / "run.json").read_text())["status"] == "interrupted"
    summary = await run(source, folder, engines)
    assert summary.exit_code == 0
    assert ended(folder) == once(60)
    assert log.read_bytes().count(b"\n") == 240


async def test_calls_that_outlast_the_grace_time_are_cancelled_and_run_again(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 5), tmp_path / "out"
    stop = asyncio.Event()
    hanging = scripted_engines() | {"cyd": scripted_engines("hang_rate: 1.0")["cyd"]}
    task = asyncio.create_task(run(source, folder, hanging, replace(QUICK, stop=stop, grace_s=0.05)))
    await until(lambda: hanging["cyd"].started == 5)
    stop.set()
    summary = await task
    assert (summary.status, summary.succeeded, summary.failed) == ("interrupted", 0, 0)
    assert hanging["cyd"].running == 0
    log = tmp_path / "calls"
    summary = await run(source, folder, logged(scripted_engines(), log))
    assert summary.status == "finished"
    assert Counter(json.loads(line).split("/")[2] for line in log.read_text().splitlines()) == {"cyd": 5, "ada": 5}
    assert ended(folder) == once(5)


async def test_a_cancelled_run_is_whole_and_can_be_gone_on_with(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 20), tmp_path / "out"
    engines = scripted_engines("delay_s: 0.02")
    task = asyncio.create_task(run(source, folder, engines, replace(QUICK, in_flight=3)))
    await until(lambda: engines["ada"].finished >= 6)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engines["ada"].running == 0
    assert (await run(source, folder)).status == "finished"
    assert ended(folder) == once(20)


async def test_failures_of_members_are_values_and_are_recalled(tmp_path):
    source, folder, log = write_rows(tmp_path / "in.jsonl", 12), tmp_path / "out", tmp_path / "calls"
    engines = scripted_engines() | {"bob": scripted_engines("fail_rate: 1.0")["bob"]}
    summary = await run(source, folder, engines)
    assert summary.exit_code == 0
    assert summary.members["bob"].failures == 12
    assert summary.member_failures == {"engine_error": 12}
    first = read_lines(folder / "output.jsonl")
    journal = folder / "journal.jsonl"
    calls = [line for line in journal.read_bytes().splitlines(True) if not line.startswith(b'{"end":')]
    journal.write_bytes(b"".join(calls))
    await run(source, folder, logged(scripted_engines(), log))
    assert log.read_bytes() == b""
    again = {line["custom_id"]: line["response"]["body"]["fusion"] for line in read_lines(folder / "output.jsonl")}
    assert again == {line["custom_id"]: line["response"]["body"]["fusion"] for line in first}


async def test_rows_without_an_answer_are_errors_and_can_be_tried_again(tmp_path):
    source, folder, log = tmp_path / "in.jsonl", tmp_path / "out", tmp_path / "calls"
    source.write_text('{"id":"a","prompt":"1"}\n{"id":"b","prompt":"2"}\n{broken\n')
    summary = await run(source, folder, scripted_engines("fail_rate: 1.0"))
    assert (summary.exit_code, summary.failed) == (1, 3)
    line = next(line for line in read_lines(folder / "errors.jsonl") if line["custom_id"] == "a")
    assert line["response"]["status_code"] == 503
    assert line["response"]["body"]["error"]["code"] == "all_panels_failed"
    assert line["response"]["body"]["error"]["line"] == 1
    assert {one["reason"] for one in line["response"]["body"]["fusion"]["failed_models"]} == {"engine_error"}
    assert (await run(source, folder)).failed == 3
    retry = replace(QUICK, retry_failed=True)
    summary = await run(source, folder, logged(scripted_engines(), log), retry)
    assert (summary.succeeded, summary.failed, summary.failures) == (2, 1, {"invalid_json": 1})
    assert ended(folder) == {"a": 1, "b": 1, "line-3": 1}
    assert log.read_bytes().count(b"\n") == 8
    summary = await run(source, folder, logged(scripted_engines(), log))
    assert (summary.succeeded, summary.failed) == (2, 1)
    assert log.read_bytes().count(b"\n") == 8


async def test_a_kill_right_after_the_retry_was_noted_costs_nothing(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 5), tmp_path / "out"
    await run(source, folder, scripted_engines("fail_rate: 1.0"), replace(QUICK, limit=3))
    journal_retry(folder, read_past(folder))
    summary = await run(source, folder)
    assert (summary.succeeded, summary.failed, summary.resumed) == (5, 0, 0)
    assert ended(folder) == once(5)


async def test_duplicates_of_rows_of_an_earlier_session_are_known(tmp_path):
    source, folder = tmp_path / "in.jsonl", tmp_path / "out"
    source.write_text('{"id":"a","prompt":"1"}\n{"id":"b","prompt":"2"}\n{"id":"a","prompt":"3"}\n')
    await run(source, folder, options=replace(QUICK, limit=1))
    summary = await run(source, folder)
    assert (summary.succeeded, summary.failures) == (2, {"duplicate_id": 1})
    assert [line["error"]["line"] for line in read_lines(folder / "errors.jsonl")] == [3]


async def test_a_prompt_over_every_context_is_the_rows_own_mistake(tmp_path):
    source, folder = tmp_path / "in.jsonl", tmp_path / "out"
    source.write_text(json.dumps({"id": "long", "prompt": "word " * 60}) + '\n{"id":"short","prompt":"hi"}\n')
    short = "context: 40"
    summary = await run_batch(source, folder, scripted_engines(short), recipe_for("vote", short), QUICK)
    assert (summary.succeeded, summary.failed) == (1, 1)
    response = read_lines(folder / "errors.jsonl")[0]["response"]
    assert response["status_code"] == 400
    assert {one["reason"] for one in response["body"]["fusion"]["failed_models"]} == {"context_exceeded"}


async def test_an_unexpected_mistake_costs_one_row_and_tells_no_prompt(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 4), tmp_path / "out"

    async def fuse(request, recipe, engines):
        if request.id == "row-2":
            raise ValueError(request.messages[0].content)
        return await small_fuse(request, recipe, engines)

    summary = await run_batch(source, folder, scripted_engines(), RECIPE, QUICK, fuse_with=fuse)
    assert (summary.succeeded, summary.failures) == (3, {"unexpected_error": 1})
    assert "Question" not in (folder / "errors.jsonl").read_text()


class DyingEngine(ScriptedEngine):
    """Waits until the run is stopping, then its process is gone; or its owner aborts the call."""

    def __init__(self, name, stop, error):
        super().__init__(name)
        self.stop, self.error, self.waiting = stop, error, 0

    async def generate(self, call):
        self.waiting += 1
        await self.stop.wait()
        raise self.error("the engine is gone")


@pytest.mark.parametrize("error", [EngineDied, CallAborted])
async def test_engines_that_go_down_with_the_run_are_no_failures(tmp_path, error):
    """Ctrl-C reaches the engines as well as the driver: their rows are made again, not written without them."""
    source, folder = write_rows(tmp_path / "in.jsonl", 4), tmp_path / "out"
    stop = asyncio.Event()
    engines = scripted_engines() | {"bob": DyingEngine("bob", stop, error)}
    task = asyncio.create_task(run(source, folder, engines, replace(QUICK, stop=stop)))
    await until(lambda: engines["bob"].waiting == 4)
    stop.set()
    assert (await task).status == "interrupted"
    assert "error" not in (folder / "journal.jsonl").read_text()
    summary = await run(source, folder)
    assert (summary.status, summary.member_failures) == ("finished", {})


async def test_rows_in_flight_are_bounded_and_there_is_no_barrier(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 40), tmp_path / "out"
    now, most, order = 0, 0, []

    async def fuse(request, recipe, engines):
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.2 if request.id == "row-0" else 0.001)
        now -= 1
        order.append(request.id)
        return await small_fuse(request, recipe, engines)

    await run_batch(source, folder, scripted_engines(), RECIPE, replace(QUICK, in_flight=5), fuse_with=fuse)
    assert most == 5
    assert order[-1] == "row-0"


async def test_progress_is_told_to_the_end(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 30), tmp_path / "out"
    seen = []
    options = replace(QUICK, in_flight=4, progress_every_s=0.01)
    await run(source, folder, scripted_engines("delay_s: 0.01"), options, progress=seen.append)
    assert len(seen) > 3
    assert [one.done for one in seen] == sorted(one.done for one in seen)
    assert max(one.in_flight for one in seen) <= 4
    last = seen[-1]
    assert (last.total, last.done, last.in_flight, last.eta_s) == (30, 30, 0, 0.0)
    assert last.rows_per_s > 0
    assert last.tokens_per_s > 0


async def test_a_limit_may_grow(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 30), tmp_path / "out"
    summary = await run(source, folder, options=replace(QUICK, limit=4))
    assert (summary.status, summary.total, summary.succeeded) == ("finished", 4, 4)
    summary = await run(source, folder)
    assert (summary.total, summary.resumed, summary.succeeded) == (30, 4, 30)
    assert ended(folder) == once(30)


async def test_a_dry_run_checks_rows_and_writes_nothing(tmp_path):
    source, folder = tmp_path / "in.jsonl", tmp_path / "out"
    source.write_text('{"id":"a","prompt":"1"}\n{"id":"a","prompt":"1"}\n{broken\n')
    summary = await run_batch(source, folder, {}, RECIPE, BatchOptions(dry_run=True))
    assert (summary.status, summary.succeeded, summary.failed, summary.exit_code) == ("checked", 1, 2, 1)
    assert [problem.split(": ")[0] for problem in summary.problems] == ["in.jsonl line 2", "in.jsonl line 3"]
    assert not folder.exists()


async def test_gzip_rows_run_and_resume(tmp_path):
    plain, folder = write_rows(tmp_path / "in.jsonl", 9), tmp_path / "out"
    source = tmp_path / "in.jsonl.gz"
    source.write_bytes(gzip.compress(plain.read_bytes()))
    await run(source, folder, options=replace(QUICK, limit=5))
    assert (await run(source, folder)).succeeded == 9
    assert ended(folder) == once(9)


async def test_metadata_comes_back(tmp_path):
    source, folder = tmp_path / "in.jsonl", tmp_path / "out"
    source.write_text('{"id":"a","prompt":"1","metadata":{"kind":"test"}}\n')
    await run(source, folder)
    assert read_lines(folder / "output.jsonl")[0]["response"]["body"]["metadata"] == {"kind": "test"}


async def test_copies_of_a_folder_can_be_gone_on_with(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 8), tmp_path / "out"
    await run(source, folder, options=replace(QUICK, limit=3))
    shutil.copytree(folder, tmp_path / "moved")
    assert (await run(source, tmp_path / "moved")).succeeded == 8


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("input", "another input"),
        ("seed", r"other settings \(seed\)"),
        ("quorum", r"settings\.quorum"),
        ("panel", r"panel\.0\.sampling\.temperature"),
    ],
)
async def test_a_folder_of_another_run_is_refused(tmp_path, change, told):
    source, folder = write_rows(tmp_path / "in.jsonl", 3), tmp_path / "out"
    await run(source, folder)
    recipe, options = RECIPE, QUICK
    if change == "input":
        write_rows(source, 4)
    elif change == "seed":
        options = replace(QUICK, seed=9)
    elif change == "quorum":
        recipe = recipe_for(fusion="quorum: 2")
    else:
        recipe = recipe_for(panel="[{model: ada, sampling: {temperature: 0.1}}, bob, cyd]")
    with pytest.raises(InputError, match=told):
        await run_batch(source, folder, scripted_engines(), recipe, options, fuse_with=small_fuse)
    assert ended(folder) == once(3)
