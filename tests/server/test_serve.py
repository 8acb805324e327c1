"""`local-fusion serve` as a process: what it prints, what it refuses, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.server.conftest import CONFIG


def command(tmp_path: Path, *arguments: str, text: str = CONFIG) -> subprocess.Popen[str]:
    (tmp_path / "models.yaml").write_text(text.replace("STATE", str(tmp_path / "state")))
    return subprocess.Popen(
        [sys.executable, "-m", "local_fusion", "serve", *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def served(tmp_path: Path, *arguments: str, text: str = CONFIG) -> Iterator[tuple[subprocess.Popen[str], str]]:
    port = free_port()
    process = command(tmp_path, "--port", str(port), *arguments, text=text)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                if httpx.get(f"{url}/v1/models").json()["data"][0]["local_fusion"]["ready"]:
                    break
            except httpx.TransportError:
                assert process.poll() is None, process.communicate()
            time.sleep(0.1)
        yield process, url
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_serves_and_ends_in_order(tmp_path: Path, number: signal.Signals) -> None:
    with served(tmp_path, "--log-format", "json", "-f", "voted", "-f", "team") as (process, url):
        body = {"messages": [{"role": "user", "content": "2+2?"}], "stream": True}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
            assert answer.read().endswith(b"data: [DONE]\n\n")
        names = [entry["id"] for entry in httpx.get(f"{url}/v1/models").json()["data"]]
        assert names[:3] == ["voted", "team", "openrouter/fusion"]
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert process.returncode == 0, err
        assert out == ""
        assert url in err
        assert "voted (default)" in err
        assert "no keys" in err
        assert "ready after" in err
        assert '"route":"/v1/chat/completions"' in err
        assert "2+2" not in err


def test_a_port_in_use_is_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        process = command(tmp_path, "--port", port)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert err.count("\n") == 1
    assert f"cannot listen on 127.0.0.1 port {port}: Address already in use" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "local-fusion keys add"),
        (["--keys", "none.yaml"], "no file of keys"),
        (["--fusion", "teem"], "did you mean 'team'"),
        (["--host", "no-such-host.invalid"], "is no address"),
        (["--tls-key", "models.yaml"], "--tls-certificate"),
        (["--log-format", "xml"], "known are"),
    ],
)
def test_wrong_use_is_a_sentence_with_the_remedy(tmp_path: Path, arguments: list[str], said: str) -> None:
    process = command(tmp_path, "--port", "0", *arguments)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 2
    assert said in err
    assert "Traceback" not in err


def test_an_engine_that_does_not_start_ends_the_process_with_its_cause(tmp_path: Path) -> None:
    text = CONFIG.replace('three: {engine: scripted, scripted: {answers: ["Five."]}}', "three: {path: no/such/folder}")
    process = command(tmp_path, "--port", "0", text=text)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 2, err
    assert "model three: no model in" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    text = CONFIG.replace('answers: ["The answer is 4."]', "hang_rate: 1")
    text = text.replace("mode: merge}", "mode: merge, quorum: 3, member_timeout_s: 600}")
    with served(tmp_path, text=text) as (process, url):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{url}/v1/chat/completions", json={"messages": [{"role": "user", "content": "?"}]}, timeout=0.5)
        with httpx.Client(timeout=30) as client:
            body = {"messages": [{"role": "user", "content": "2+2?"}], "stream": True}
            with client.stream("POST", f"{url}/v1/chat/completions", json=body) as answer:
                process.send_signal(signal.SIGTERM)
                time.sleep(0.5)
                assert process.poll() is None  # the stream is under way and has its time
                process.send_signal(signal.SIGTERM)
                assert b"shutting_down" in answer.read()
        process.communicate(timeout=15)
        assert process.returncode == 0
