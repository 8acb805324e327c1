"""Kills the driver, a host or an engine below a host while a batch runs through Ray, and checks the history."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PROGRAM = Path(__file__).with_name("crash_program.py")
START_S = 400.0


@dataclass
class Batch:
    """A run that is killed on its way. `kills`: what was killed, in order."""

    config: Path
    fusion: str
    source: Path
    place: Path
    kills: list[str] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None
    _journaled: set[str] = field(default_factory=set)
    _repeated: set[str] = field(default_factory=set)
    _seen: int = 0

    @property
    def folder(self) -> Path:
        return self.place / "out"

    def run(self, victims: list[str], growth_bytes: int, seed: int) -> None:
        """Run to the end; kill each of `victims` (driver, host, engine) once the journal has grown a while."""
        draw = random.Random(seed)
        self._start()
        for victim in victims:
            self._wait_for_growth(draw.randrange(growth_bytes // 4, growth_bytes))
            if self._process is None or self._process.poll() is not None:
                break
            self._kill(victim, draw)
        assert self._process is not None
        code = self._process.wait(START_S)
        self._look()
        assert code == 0, (self.place / "errors.txt").read_text()[-3000:]

    def check(self, ids: list[str]) -> None:
        """Every row once, in either file; no journaled call started again by a later session."""
        lines = [
            json.loads(line)
            for name in ("output", "errors")
            for line in (self.folder / f"{name}.jsonl").read_text().splitlines()
        ]
        assert Counter(line["custom_id"] for line in lines) == Counter(ids)
        assert self._repeated == set()

    def _start(self) -> None:
        arguments = [self.config, self.fusion, self.source, self.folder, self.place / "calls", self.place / "hosts"]
        with (self.place / "errors.txt").open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, PROGRAM, *map(str, arguments)], stdout=errors, stderr=errors
            )

    def _kill(self, victim: str, draw: random.Random) -> None:
        assert self._process is not None
        if victim == "driver":
            self._process.kill()
            self._process.wait()
            self._look()
            self._start()
        else:
            host = draw.choice(self._hosts())
            target = host
            if victim == "engine":
                target = next(iter(psutil.Process(host).children(recursive=True)), psutil.Process(host)).pid
            with suppress(ProcessLookupError):
                os.kill(target, signal.SIGKILL)
        self.kills.append(victim)

    def _hosts(self) -> list[int]:
        """Processes of hosts that are up now."""
        lines = (self.place / "hosts").read_text().splitlines()
        return [pid for pid in dict.fromkeys(json.loads(line)["pid"] for line in lines) if psutil.pid_exists(pid)]

    def _wait_for_growth(self, growth: int) -> None:
        assert self._process is not None
        before, ends = self._size(), time.monotonic() + START_S
        while self._size() - before < growth and self._process.poll() is None:
            assert time.monotonic() < ends, "the journal does not grow"
            time.sleep(0.02)

    def _size(self) -> int:
        journal = self.folder / "journal.jsonl"
        return journal.stat().st_size if journal.exists() else 0

    def _look(self) -> None:
        """After a session: what it started that stood in the journal before it, and what stands there now."""
        log = self.place / "calls"
        started = log.read_text().splitlines() if log.exists() else []
        self._repeated |= self._journaled & {json.loads(line) for line in started[self._seen :]}
        self._seen = len(started)
        journal = self.folder / "journal.jsonl"
        if journal.exists():
            whole = journal.read_bytes().rpartition(b"\n")[0].split(b"\n")
            self._journaled = {json.loads(line)["id"] for line in whole if line.startswith(b'{"call":')}
