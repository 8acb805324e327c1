"""Kill a run again and again, go on each time, and check the history: a harness for runs of any kind.

A session is a function that runs the batch once, in a process of its own; `crash` starts it, kills what `victims`
names (the session itself, unless told otherwise) after the journal has grown by a random number of bytes, and starts
it again until the run is finished. The checker trusts two files only: the journal, as it lay there at each kill, and
the log of calls that engines were asked to start.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path

from batch_fakes import logged, read_lines, recipe_for, scripted_engines

from local_fusion.batch.options import BatchOptions
from local_fusion.batch.run import run_batch

Session = Callable[[Path, Path, Path, str], None]
Victims = Callable[[int], Iterable[int]]
_POLL_S = 0.001


@dataclass
class History:
    """`kills`: sessions that died by the kill; `journaled`: calls in the journal at any kill; `repeated`: those of
    them that were started again later."""

    kills: int = 0
    sessions: int = 0
    journaled: set[str] = field(default_factory=set)
    repeated: set[str] = field(default_factory=set)
    log_bytes: int = 0


def scripted_session(source: Path, folder: Path, log: Path, mode: str) -> None:
    """One session on scripted engines in its own process: slow enough to be met, some calls failing,
    some answers garbage, some rows without a quorum."""
    script = "delay_s: 0.008, delay_spread: 0.9, fail_rate: 0.1, garbage_rate: 0.02, empty_rate: 0.02"
    engines = logged(scripted_engines(script), log)
    options = BatchOptions(seed=1, in_flight=16, journal_sync_s=0.02)
    asyncio.run(run_batch(source, folder, engines, recipe_for(mode, script, "quorum: 2"), options))


def myself(pid: int) -> list[int]:
    """The session is the only victim."""
    return [pid]


def crash(
    session: Session,
    source: Path,
    folder: Path,
    log: Path,
    mode: str = "best-of",
    kills: int = 50,
    growth_bytes: int = 20_000,
    seed: int = 0,
    victims: Victims = myself,
    preload: tuple[str, ...] = ("local_fusion.batch.run", "local_fusion.engines.scripted"),
) -> History:
    """Run `session` until it finishes; kill it `kills` times on the way, where the journal grew by up to
    `growth_bytes` since it started. Every tenth kill comes at a random moment of the start instead."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    draw, history = random.Random(seed), History()
    while True:
        process = context.Process(target=session, args=(source, folder, log, mode))
        process.start()
        history.sessions += 1
        if history.kills < kills:
            early = history.sessions % 10 == 0
            _wait_for(process, folder / "journal.jsonl", 0 if early else draw.randrange(1, growth_bytes))
            time.sleep(draw.random() * 0.05 if early else 0.0)
            for victim in victims(process.pid or 0):
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
        process.join()
        _look(history, folder / "journal.jsonl", log)
        if process.exitcode == 0:
            return history
        if process.exitcode != -signal.SIGKILL:
            raise AssertionError(f"a session ended with {process.exitcode}, not by the kill")
        history.kills += 1


def check(history: History, folder: Path, ids: Iterable[str]) -> dict[str, dict]:
    """Every id once, in either file, and no journaled call started again. Returns the lines by id."""
    lines = [line for name in ("output", "errors") for line in read_lines(folder / f"{name}.jsonl")]
    assert Counter(line["custom_id"] for line in lines) == Counter(ids)
    assert history.repeated == set()
    return {line["custom_id"]: line for line in lines}


def what_was_said(line: dict) -> object:
    """The part of a line that does not tell of time. Of a failed row only that: which member failed last, and with
    it the code, is a matter of time."""
    body = (line["response"] or {}).get("body", {})
    if "choices" not in body:
        return line["response"] and line["response"]["status_code"]
    fusion = body["fusion"]
    members = [(one["model"], one["content"]) for one in fusion["responses"]]
    return body["choices"][0]["message"], body["model"], fusion["mode"], members


def _wait_for(process: BaseProcess, journal: Path, growth: int) -> None:
    before = _size(journal)
    while process.is_alive() and _size(journal) - before < growth:
        time.sleep(_POLL_S)


def _look(history: History, journal: Path, log: Path) -> None:
    """After a session: what it started that was journaled before it, and what is journaled now."""
    if log.exists():
        with log.open("rb") as handle:
            handle.seek(history.log_bytes)
            new = handle.read()
        history.log_bytes += len(new)
        history.repeated |= history.journaled & {json.loads(line) for line in new.splitlines()}
    if journal.exists():
        whole = journal.read_bytes().rpartition(b"\n")[0]
        calls = (json.loads(line) for line in whole.split(b"\n") if line.startswith(b'{"call":'))
        history.journaled = {call["id"] for call in calls}


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
