"""`local-fusion serve` on real engines, killed with SIGKILL while a batch runs, and the server after it.

Every row once, finished rows byte for byte as the first server wrote them, no journaled call run again, and no engine
outlives its server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

import local_fusion
from local_fusion.batch.past import JOURNAL, OUTPUT, read_past
from local_fusion.zoo.questions import questions
from tests.real.test_crash_on_vllm import PAIR
from tests.server.test_batches import jsonl, line
from tests.server.test_serve import free_port

ROWS = 80
START_S, GONE_S = 400.0, 60.0
pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(900)]


class Server:
    """`local-fusion serve` as a process, and all that it has started."""

    def __init__(self, place: Path) -> None:
        port = free_port()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30)
        self.family: list[psutil.Process] = []
        options = ["--port", str(port), "--fusion", "pair", "--state", str(place / "state")]
        options += ["--log-format", "off"]
        self._errors = place / "errors.txt"
        with self._errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "local_fusion", "serve", *options], cwd=place, stdout=errors, stderr=errors
            )

    def wait_for(self, what: Callable[[], Any], seconds: float = START_S, pause_s: float = 0.25) -> Any:
        """What `what` gives once it is true, while the server lives."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            assert self.process.poll() is None, self._errors.read_text()[-3000:]
            with suppress(httpx.TransportError):
                if found := what():
                    return found
            time.sleep(pause_s)
        raise AssertionError(self._errors.read_text()[-3000:])

    def get(self, path: str) -> Any:
        return self.client.get(path).raise_for_status()

    def ready(self) -> bool:
        return self.get("/v1/models").json()["data"][0]["local_fusion"]["ready"]

    def kill(self) -> None:
        """End it without a word."""
        self.look()
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """End it in order."""
        self.look()
        self.process.terminate()
        assert self.process.wait(GONE_S) == 0, self._errors.read_text()[-3000:]

    def look(self) -> None:
        """Note what it has started."""
        if self.process.poll() is None:
            self.family = psutil.Process(self.process.pid).children(recursive=True)


def holds_vllm(process: psutil.Process) -> bool:
    """Whether vLLM's compiled code is loaded there."""
    with suppress(psutil.NoSuchProcess):
        return any("/vllm/_C" in mapped.path for mapped in process.memory_maps())
    return False


def vanish(processes: list[psutil.Process]) -> None:
    """Wait for the end of all of them; one that nobody has waited for has ended, too."""
    ends = time.monotonic() + GONE_S
    while left := [process for process in processes if lives(process)]:
        assert time.monotonic() < ends, left
        time.sleep(0.25)


def lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def begin(server: Server, ids: list[str]) -> str:
    """Upload the rows and start a batch of them; its id."""
    drawn = zip(ids, questions(11, len(ids), "heldout"), strict=True)
    lines = [line(name, "pair", messages=[{"role": "user", "content": one.prompt}]) for name, one in drawn]
    sent = {"file": ("in.jsonl", jsonl(lines))}
    file = server.client.post("/v1/files", files=sent, data={"purpose": "batch"}).json()
    ask = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    return str(server.client.post("/v1/batches", json=ask).raise_for_status().json()["id"])


def calls_of(journal: bytes) -> set[str]:
    """Ids of the finished calls in lines of a journal."""
    return {json.loads(one)["id"] for one in journal.splitlines() if one.startswith(b'{"call":')}


def test_a_killed_server_loses_doubles_and_repeats_nothing(short_folder: Path) -> None:
    shipped = (Path(local_fusion.__file__).parent / "models.yaml").read_text()
    text = shipped.replace("fusions:\n", PAIR, 1).replace("runtime:\n", "runtime:\n  journal_sync_s: 0.02\n", 1)
    (short_folder / "models.yaml").write_text(text + "\nserver: {batch_in_flight: 8}\n")
    ids = [f"row-{number}" for number in range(ROWS)]
    servers = [Server(short_folder)]
    try:
        servers[0].wait_for(servers[0].ready)
        servers[0].look()
        engines = [process for process in servers[0].family if holds_vllm(process)]
        assert len(engines) >= 2
        place = f"/v1/batches/{begin(servers[0], ids)}"
        servers[0].wait_for(lambda: servers[0].get(place).json()["request_counts"]["completed"] >= 8, pause_s=0.1)
        servers[0].kill()
        run = short_folder / "state" / "batches" / place.rpartition("/")[2] / "run"
        done = read_past(run)
        before = (run / JOURNAL).read_bytes()[: done.journal_bytes]
        finished = (run / OUTPUT).read_bytes()[: done.bytes_of[OUTPUT]]
        assert 8 <= len(finished.splitlines()) < ROWS
        os.link(run / JOURNAL, short_folder / JOURNAL)  # which the second server removes when the batch has ended

        servers.append(Server(short_folder))  # while engines of the first may still be dying
        vanish(engines)  # Ray's own two agents are ended some seconds later
        servers[1].wait_for(lambda: servers[1].get(place).json()["status"] == "completed")
        batch = servers[1].get(place).json()
        output = servers[1].get(f"/v1/files/{batch['output_file_id']}/content").content
        servers[1].end()
        vanish(servers[1].family)
    finally:
        for server in servers:
            server.kill()
            server.client.close()
            for process in server.family:
                with suppress(psutil.NoSuchProcess):
                    if process.name() != "sh":  # the guardian, which removes Ray's folder and ends
                        process.kill()
    assert batch["request_counts"] == {"total": ROWS, "completed": ROWS, "failed": 0}
    assert batch["error_file_id"] is None
    assert Counter(json.loads(row)["custom_id"] for row in output.splitlines()) == Counter(ids)
    assert output.startswith(finished)
    after = (short_folder / JOURNAL).read_bytes()
    assert after.startswith(before)
    later = calls_of(after[len(before) :])
    assert later
    assert later.isdisjoint(calls_of(before))
