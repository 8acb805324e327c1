"""What the HTTP server adds to each stage of a fusion, and whether it holds many streams at once.

    python -m benchmarks.server_load [--streams 200] [--rounds 3] [--runs 5] [--ray] [--profile FILE]

The server runs as a process of its own on scripted engines that take known times; clients speak raw HTTP from this
process. A stage is a step that has to wait for the one before: the panel, the analysis, each read of the judge, the
writer. Overhead per stage of a request = (seconds until its last byte - scripted seconds of its longest path) / stages.
It holds everything that is not the engines' delay: HTTP, JSON, the fusion's own work, and the wait for a free core.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import socket
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from os import sysconf
from pathlib import Path
from statistics import quantiles
from time import perf_counter
from typing import Any

from benchmarks.figures import at_most, plain, tell

MEMBER_S, JUDGE_S = 1.0, 0.5
REQUEST_S = MEMBER_S + 2 * JUDGE_S
GROUP = "HTTP server"
ANSWER = "An answer of some forty words, as long as a short paragraph is, so that pieces have to be made and sent. " * 2


def config(folder: Path, hosts: str) -> str:
    """models.yaml; JSON is YAML."""

    def model(name: str, delay_s: float) -> dict[str, Any]:
        return {"engine": "scripted", "scripted": {"answers": [f"{ANSWER}{name}"], "delay_s": delay_s}}

    panel = ["one", "two", "three"]
    team = {"panel": panel, "judge": "judge", "mode": "merge", "guard": False}
    return json.dumps({
        "models": {name: model(name, MEMBER_S) for name in panel} | {"judge": model("judge", JUDGE_S)},
        "fusions": {"team": team},
        "runtime": {"hosts": hosts},
        "server": {"state": str(folder / "state")},
    })  # fmt: skip


@dataclass(frozen=True)
class Taken:
    """One request: seconds to its first and last byte, bytes, and calls of the judge one after another."""

    first_s: float
    total_s: float
    size: int
    judged: int

    @property
    def stages(self) -> int:
        return 1 + self.judged

    @property
    def added_s(self) -> float:
        """Seconds per stage that are not the engines'."""
        return (self.total_s - MEMBER_S - self.judged * JUDGE_S) / self.stages


async def ask(port: int, place: int, stream: bool) -> Taken:
    """One request on a connection of its own. Raises ValueError where anything is not as it should be."""
    body = json.dumps({
        "stream": stream, "seed": place, 
        "messages": [{"role": "user", "content": f"Question {place}: what is said of it?"}],
    }).encode()  # fmt: skip
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {len(body)}\r\n"
    )
    began = perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode() + b"content-type: application/json\r\n\r\n" + body)
    raw = await reader.readuntil(b"\r\n\r\n")
    first = perf_counter() - began
    raw += await reader.read()
    total = perf_counter() - began
    writer.close()
    if not raw.startswith(b"HTTP/1.1 200") or b'"error"' in raw or (stream and b"data: [DONE]" not in raw):
        raise ValueError(f"request {place}: {raw[:300]!r}")
    return Taken(first, total, len(raw), 2)


async def served(folder: Path, hosts: str, profile: str | None) -> tuple[Process, int]:
    """Start a server; its port, once it is ready."""
    (folder / "models.yaml").write_text(config(folder, hosts))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    options = ["-m", "cProfile", "-o", profile] if profile else []
    command = [*options, "-m", "local_fusion", "serve", "--port", str(port), "--log-format", "json"]
    log = (folder / "log").open("wb")
    process = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=folder, stderr=log, stdout=PIPE)
    while b"Ctrl-C ends it" not in (folder / "log").read_bytes():
        if process.returncode is not None:
            raise RuntimeError((folder / "log").read_text())
        await asyncio.sleep(0.2)
    return process, port


async def steady(port: int, streams: int, rounds: int, stream: bool) -> list[Taken]:
    """`streams` clients, begun one after another within the time of one request; each asks `rounds` times."""

    async def client(place: int) -> list[Taken]:
        await asyncio.sleep(REQUEST_S * place / streams)
        return [await ask(port, 1000 * (round_ + 1) + place, stream) for round_ in range(rounds + 1)]

    every = await asyncio.gather(*(client(place) for place in range(streams)))
    return [one for taken in every for one in taken[1:]]  # each client's first: not all others are there yet


def processor_s(process: Process) -> float:
    """Seconds of processor time that the server has used."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / sysconf("SC_CLK_TCK")


def report(runs: list[list[Taken]], kind: str, told: str) -> None:
    """p50 and p99 of each run."""
    cuts = [quantiles([1000 * one.added_s for one in taken], n=100) for taken in runs]
    rest = {"conditions": told, "bound": "One process does all of it; it shares its core with the clients."}
    every = [one for taken in runs for one in taken]
    print(
        f"{len(every)} requests, no error; first byte after {1000 * max(one.first_s for one in every):.0f} ms at most"
    )
    tell(at_most(GROUP, f"added per stage, p50, {kind}", [cut[49] for cut in cuts], "ms", 10, **rest))
    tell(at_most(GROUP, f"added per stage, p99, {kind}", [cut[98] for cut in cuts], "ms", 25, **rest))


async def main(streams: int, rounds: int, runs: int, ray: bool, profile: str | None) -> None:
    told = (
        f"{streams} at once, each request on a connection of its own, members {MEMBER_S} s, judge {JUDGE_S} s a call, "
    )
    told += "engines in Ray hosts" if ray else "engines in the server's process"
    with tempfile.TemporaryDirectory(prefix="load-") as name:
        process, port = await served(Path(name), "ray" if ray else "local", profile)
        try:
            for stream in (True, False):
                await ask(port, 0, stream)
                kind = ("streams" if stream else "whole answers") + (", Ray hosts" if ray else "")
                alone = [(await ask(port, place, stream)).added_s * 1000 for place in range(1, 6)]
                tell(plain(GROUP, f"added per stage, one at a time, {kind}", alone, "ms", conditions=told))
                used = processor_s(process)
                taken = [await steady(port, streams, rounds, stream) for _ in range(runs)]
                stages = sum(one.stages for run in taken for one in run) * (rounds + 1) / rounds
                used = 1000 * (processor_s(process) - used) / stages
                tell(plain(GROUP, f"processor time per stage, {kind}", [used], "ms", conditions=told))
                report(taken, kind, told)
                burst = await asyncio.gather(*(ask(port, 10**6 + place, stream) for place in range(streams)))
                last = max(1000 * one.added_s for one in burst)
                tell(plain(GROUP, f"added per stage, worst of {streams} at one moment, {kind}", [last], "ms"))
        finally:
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), 60)
    if process.returncode != 0:
        raise RuntimeError(f"the server ended with {process.returncode}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3, help="requests of each client in a run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--ray", action="store_true", help="engines in Ray hosts, as they are served")
    parser.add_argument("--profile", help="write a cProfile of the server here")
    given = parser.parse_args()
    asyncio.run(main(given.streams, given.rounds, given.runs, given.ray, given.profile))
