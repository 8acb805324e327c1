"""Kills on a GPU: a host is replaced; after the driver's end nothing of ours is left on it; the run is resumed."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from time import monotonic
from uuid import uuid4

import psutil

from benchmarks.gpu_machine import MARK, Family, used_bytes, wait_released
from benchmarks.gpu_models import QWEN3_SMALL, write_model
from benchmarks.gpu_report import Facts, Missed, Report

ROWS = 400
RELEASE_S = 30.0
_CONFIG = """
models:
  ada: &small
    path: {place}/ada
    gpus: 0.4
    restarts: -1
    sampling: {{max_tokens: 128, temperature: 1.0, ignore_eos: true}}
    vllm: {{load_format: dummy, max_model_len: 4096, kv_cache_memory_bytes: 2147483648, enforce_eager: true}}
  bob: {{<<: *small, path: {place}/bob}}
fusions:
  pair: {{panel: [{{model: ada, samples: 2}}, bob], judge: bob, mode: best-of, max_panel_tokens: 128}}
runtime: {{in_flight: 16}}
"""


class Run:
    """One batch in a process of its own, begun as often as needed."""

    def __init__(self, place: Path, rows: int) -> None:
        self.token = uuid4().hex
        self.place = place
        self.ids = [f"row-{number}" for number in range(rows)]
        for name in ("ada", "bob"):
            write_model(place / name, QWEN3_SMALL)
        (place / "models.yaml").write_text(_CONFIG.format(place=place))
        lines = [json.dumps({"id": name, "prompt": f"What is {name}?"}) for name in self.ids]
        (place / "in.jsonl").write_text("\n".join(lines) + "\n")

    def start(self) -> subprocess.Popen[bytes]:
        """The same command each time: the folder knows how far it came."""
        command = [sys.executable, "-m", "local_fusion", "batch", self.place / "in.jsonl", self.place / "out"]
        with (self.place / "log").open("ab") as log:
            return subprocess.Popen(
                [*map(str, command), "--config", str(self.place / "models.yaml"), "--fusion", "pair"],
                env=os.environ | {MARK: self.token},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def grown(self, process: subprocess.Popen[bytes], bytes_more: int, limit_s: float) -> None:
        """Wait until the journal has grown. Raises Missed where the run ends or hangs before."""
        journal = self.place / "out" / "journal.jsonl"
        ends, wanted = monotonic() + limit_s, _size(journal) + bytes_more
        while _size(journal) < wanted:
            if process.poll() is not None or monotonic() > ends:
                log = (self.place / "log").read_text("utf-8", "replace")[-1500:]
                raise Missed("the run ended or stood still before it was killed", {"log": log})
            await asyncio.sleep(0.05)

    def calls(self) -> Counter[str]:
        """Journaled calls by id."""
        whole = (self.place / "out" / "journal.jsonl").read_bytes().rpartition(b"\n")[0].split(b"\n")
        return Counter(json.loads(line)["id"] for line in whole if line.startswith(b'{"call":'))

    def rows(self) -> Counter[str]:
        """Rows written by id."""
        files = [self.place / "out" / name for name in ("output.jsonl", "errors.jsonl")]
        lines = [line for file in files if file.exists() for line in file.read_text("utf-8").splitlines()]
        return Counter(json.loads(line)["custom_id"] for line in lines)


async def killed(place: Path, rows: int = ROWS) -> Facts:
    """Kill a host, then the driver, look at the GPU, resume. Raises Missed."""
    before, run = used_bytes(), Run(place, rows)
    process = run.start()
    family = Family(process.pid, run.token)
    try:
        facts = await _kill_a_host(run, process, family)
        facts["memory_of_the_fleet_mib"] = (used_bytes() - before) // 2**20
        family.look()
        process.kill()
        process.wait()
        facts |= await asyncio.to_thread(wait_released, family, before, RELEASE_S)
        journaled = run.calls()
        facts["calls_journaled_before_the_kill"] = journaled.total()
        process = run.start()
        family = Family(process.pid, run.token)
        facts["exit_code_of_the_resumed_run"] = await asyncio.to_thread(_watched_wait, process, family, 300)
        facts |= {"rows_written": run.rows().total(), "calls_in_all": run.calls().total()}
        facts |= {"after_the_end_" + k: v for k, v in wait_released(family, before, RELEASE_S).items()}
    finally:
        family.look()
        process.kill()
        process.wait()
        family.end()
    repeated = [name for name, times in run.calls().items() if times > 1]
    if run.rows() != Counter(run.ids) or repeated or facts["exit_code_of_the_resumed_run"]:
        raise Missed(f"a row is missing or twice there, or {len(repeated)} calls were run again", facts)
    return facts


def _watched_wait(process: subprocess.Popen[bytes], family: Family, limit_s: float) -> int:
    """Its exit code. Raises TimeoutExpired."""
    ends = monotonic() + limit_s
    while True:
        family.look()
        try:
            return process.wait(1.0)
        except subprocess.TimeoutExpired:
            if monotonic() > ends:
                raise


async def _kill_a_host(run: Run, process: subprocess.Popen[bytes], family: Family) -> Facts:
    """SIGKILL the head of one engine; its children must end, another must take its place, the run go on."""
    await run.grown(process, 20_000, 240)
    there = family.hosts()
    if len(there) < 2:
        raise Missed("the two hosts were not found", {"hosts": len(there)})
    victim = there[0]
    below = victim.children(recursive=True)
    begun = monotonic()
    victim.kill()
    gone, left = await asyncio.to_thread(psutil.wait_procs, below, RELEASE_S)
    facts: Facts = {"children_of_the_host": len(below), "children_ended_after_s": round(monotonic() - begun, 1)}
    if left:
        raise Missed("an engine outlived its host", facts | {"left": len(left), "gone": len(gone)})
    old = {process.pid for process in there}
    while not [host for host in family.hosts() if host.pid not in old]:
        if monotonic() - begun > 180:
            raise Missed("no host took the place of the killed one", facts)
        await asyncio.sleep(0.2)
    facts["another_host_after_s"] = round(monotonic() - begun, 1)
    await run.grown(process, 20_000, 180)
    facts["going_on_after_s"] = round(monotonic() - begun, 1)
    return facts


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


async def run(report: Report, place: Path) -> None:
    """Both kills and the resumed run."""
    await report.attempt("orphans", lambda: killed(place), 560)
