"""`local-fusion batch` as a user runs it: rows in, one record each out, exit codes."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.cli.conftest import Run


def _rows(path: Path, count: int) -> Path:
    path.write_text("".join(json.dumps({"id": f"r{i}", "prompt": f"What is {i} + 1?"}) + "\n" for i in range(count)))
    return path


def _records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_row_is_answered_once(run: Run, tmp_path: Path) -> None:
    _rows(tmp_path / "in.jsonl", 40)
    done = run("batch", "in.jsonl", "out")
    assert done.returncode == 0, done.stderr
    records = _records(tmp_path / "out" / "output.jsonl")
    assert sorted(record["custom_id"] for record in records) == sorted(f"r{i}" for i in range(40))
    body = records[0]["response"]["body"]
    assert body["object"] == "chat.completion"
    assert body["fusion"]["mode"] == "merge"
    assert "40 answered, 0 failed" in done.stderr


def test_the_same_command_again_does_nothing_more(run: Run, tmp_path: Path) -> None:
    _rows(tmp_path / "in.jsonl", 5)
    run("batch", "in.jsonl", "out")
    before = (tmp_path / "out" / "output.jsonl").read_bytes()
    done = run("batch", "in.jsonl", "out", "--resume")
    assert done.returncode == 0
    assert (tmp_path / "out" / "output.jsonl").read_bytes() == before
    assert "5 were done before" in done.stderr


def test_bad_rows_become_errors_and_exit_code_1(run: Run, tmp_path: Path) -> None:
    rows = [
        b'{"id": "good", "prompt": "What is 1 + 1?"}',
        b'{"id": "broken", "prompt": ',
        b'{"id": "good", "prompt": "again"}',
        b'{"id": "empty"}',
        b'{"id": "odd", "prompt": "x", "colour": 1}',
        b'{"id": "latin", "prompt": "caf\xe9"}',
        b'{"id": "fine", "messages": [{"role": "user", "content": "What is 2 + 2?"}]}',
    ]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(rows) + b"\n")
    done = run("batch", "in.jsonl", "out")
    assert done.returncode == 1
    good = {record["custom_id"] for record in _records(tmp_path / "out" / "output.jsonl")}
    bad = _records(tmp_path / "out" / "errors.jsonl")
    assert good == {"good", "fine"}
    assert len(bad) == 5
    for record in bad:
        error = record["error"] or record["response"]["body"]["error"]
        assert f"line {error['line']}" in error["message"]
        assert "Traceback" not in json.dumps(record)


def test_plain_text_and_gzip(run: Run, tmp_path: Path) -> None:
    with gzip.open(tmp_path / "in.txt.gz", "wt") as lines:
        lines.write("What is 1 + 1?\nWhat is 2 + 2?\n")
    assert run("batch", "in.txt.gz", "out").returncode == 0
    assert len(_records(tmp_path / "out" / "output.jsonl")) == 2


def test_wrong_use_is_a_sentence(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    _rows(tmp_path / "in.jsonl", 2)
    for arguments in (("gone.jsonl", "out"), ("empty.jsonl", "out"), ("in.jsonl", "new", "--resume"), (".", "out")):
        done = run("batch", *arguments)
        assert done.returncode == 2, (arguments, done.stderr)
        assert done.stderr.startswith("local-fusion: ")
        assert "Traceback" not in done.stderr


def test_a_changed_seed_is_refused_on_resume(run: Run, tmp_path: Path) -> None:
    _rows(tmp_path / "in.jsonl", 2)
    run("batch", "in.jsonl", "out")
    done = run("batch", "in.jsonl", "out", "--seed", "5")
    assert done.returncode == 2
    assert "seed" in done.stderr


def test_a_seed_beyond_64_bits_is_a_sentence(run: Run, tmp_path: Path) -> None:
    _rows(tmp_path / "in.jsonl", 2)
    done = run("batch", "in.jsonl", "out", "--seed", str(2**64))
    assert done.returncode == 2
    assert done.stderr.startswith("local-fusion: seed is 18446744073709551616; give a whole number from ")


def test_a_trace_never_goes_to_a_file_of_the_run(run: Run, tmp_path: Path) -> None:
    before = _rows(tmp_path / "in.jsonl", 2).read_bytes()
    run("batch", "in.jsonl", "out", "--limit", "1")
    for target in ("in.jsonl", "out/journal.jsonl", "out/../out/output.jsonl", "/dev/null", "/dev/stderr"):
        done = run("batch", "in.jsonl", "out", "--trace", target)
        assert done.returncode == 2, (target, done.stderr)
        assert done.stderr.startswith("local-fusion: --trace: ")
    assert (tmp_path / "in.jsonl").read_bytes() == before
    assert len(_records(tmp_path / "out" / "output.jsonl")) == 1


def test_dry_run_writes_nothing(run: Run, tmp_path: Path) -> None:
    _rows(tmp_path / "in.jsonl", 3)
    done = run("batch", "in.jsonl", "out", "--dry-run")
    assert done.returncode == 0
    assert "3 rows checked" in done.stderr
    assert not (tmp_path / "out").exists()


def test_limit(run: Run, tmp_path: Path) -> None:
    _rows(tmp_path / "in.jsonl", 9)
    run("batch", "in.jsonl", "out", "--limit", "4")
    assert len(_records(tmp_path / "out" / "output.jsonl")) == 4


def test_sigterm_ends_with_75_and_the_same_command_goes_on(run: Run, tmp_path: Path) -> None:
    config = (tmp_path / "models.yaml").read_text().replace("delay_s: 0.01", "delay_s: 0.3")
    (tmp_path / "models.yaml").write_text(config)
    _rows(tmp_path / "in.jsonl", 30)
    command = [sys.executable, "-m", "local_fusion", "batch", "in.jsonl", "out", "--in-flight", "4"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=os.environ)
    output = tmp_path / "out" / "output.jsonl"
    deadline = time.monotonic() + 60
    while not (output.exists() and output.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    done_before = len(_records(output))
    assert 0 < done_before < 30
    assert run("batch", "in.jsonl", "out").returncode == 0
    ids = [record["custom_id"] for record in _records(output)]
    assert len(ids) == len(set(ids)) == 30


def test_a_second_sigterm_ends_at_once_with_75_and_no_traceback(run: Run, tmp_path: Path) -> None:
    config = (tmp_path / "models.yaml").read_text().replace("fail_rate: 1.0", "hang_rate: 1.0")
    (tmp_path / "models.yaml").write_text(config)
    _rows(tmp_path / "in.jsonl", 1)
    command = [sys.executable, "-m", "local_fusion", "batch", "in.jsonl", "out", "--fusion", "hopeless"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=os.environ)
    journal = tmp_path / "out" / "journal.jsonl"
    deadline = time.monotonic() + 60
    while not journal.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    for _ in range(2):
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 75, errors
    assert "Traceback" not in errors
