"""Wrong folders, full disks and damage end in a sentence, and nothing that was written is lost."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import resource
import subprocess
import sys
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from batch_fakes import logged, read_lines, recipe_for, scripted_engines, small_fuse, write_rows

from local_fusion.batch.check import check_run
from local_fusion.batch.files import AppendFile, FolderLock, write_atomically, write_error
from local_fusion.batch.options import BatchOptions
from local_fusion.batch.run import run_batch
from local_fusion.config import parse_config
from local_fusion.errors import InputError, RunError
from local_fusion.runtime import identity_of_models

RECIPE = recipe_for()
QUICK = BatchOptions(journal_sync_s=0.01)


async def run(source, folder, engines=None, options=QUICK):
    return await run_batch(source, folder, engines or scripted_engines(), RECIPE, options, fuse_with=small_fuse)


@contextmanager
def file_size_limit(size: int):
    """Writes beyond `size` bytes of any file fail, as they do on a full disk (with another number)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("sync_s", [0.0, 0.01, 60.0])
@pytest.mark.parametrize("size", [9_000, 20_000, 40_000])
async def test_a_full_disk_stops_the_run_and_it_can_be_gone_on_with(tmp_path, size, sync_s):
    source, folder, log = write_rows(tmp_path / "in.jsonl", 40), tmp_path / "out", tmp_path / "calls"
    options = replace(QUICK, in_flight=5, journal_sync_s=sync_s)
    with file_size_limit(size), pytest.raises(RunError) as caught:
        await run(source, folder, options=options)
    assert str(folder) in caught.value.message
    assert caught.value.message.endswith("free space there and run the same command again: finished rows are kept")
    journal = (folder / "journal.jsonl").read_bytes()
    known = {json.loads(line)["id"] for line in journal.split(b"\n")[:-1] if line.startswith(b'{"call":')}
    await run(source, folder, logged(scripted_engines(), log))
    lines = [line["custom_id"] for line in read_lines(folder / "output.jsonl")]
    assert Counter(lines) == Counter(f"row-{n}" for n in range(40))
    assert not known & {json.loads(line) for line in log.read_text().splitlines()}
    assert (folder / "errors.jsonl").read_bytes() == b""


def test_dev_full_is_a_sentence(tmp_path):
    (tmp_path / "full").symlink_to("/dev/full")
    file = AppendFile(tmp_path / "full")
    with pytest.raises(RunError, match="No space left on device; free space there"):
        file.append(b"x")
    file.close()


def test_other_write_errors_have_another_remedy(tmp_path):
    told = write_error(tmp_path, OSError(errno.EACCES, "Permission denied")).message
    assert "make the folder writable and run the same command again" in told


def test_two_runs_cannot_use_one_folder_in_one_process(tmp_path):
    lock = FolderLock(tmp_path)
    with pytest.raises(InputError, match="another run is using"):
        FolderLock(tmp_path)
    with pytest.raises(InputError, match="another run is using"):
        FolderLock(tmp_path)
    lock.release()
    lock.release()
    FolderLock(tmp_path).release()


def test_nor_in_two_and_the_lock_ends_with_its_process(tmp_path):
    program = (
        "import sys, pathlib, time; from local_fusion.batch.files import FolderLock;"
        "FolderLock(pathlib.Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="another run is using"):
            FolderLock(tmp_path)
        other.kill()
    FolderLock(tmp_path).release()


async def test_the_lock_is_held_while_a_run_goes_and_free_after(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 5), tmp_path / "out"
    first = asyncio.create_task(run(source, folder, scripted_engines("delay_s: 0.1")))
    await asyncio.sleep(0.05)
    with pytest.raises(InputError, match="another run is using"):
        await run(source, folder)
    await first
    assert (await run(source, folder)).resumed == 5


async def test_folders_that_cannot_be(tmp_path):
    source = write_rows(tmp_path / "in.jsonl", 2)
    with pytest.raises(InputError, match="is a file; name a folder for the output"):
        await run(source, source)
    with pytest.raises(InputError, match=r"cannot make the folder .*; name another output folder"):
        await run(source, source / "out")
    with pytest.raises(InputError, match="cannot make the folder"):
        check_run(source, tmp_path.__class__("/proc/no-such-folder"), RECIPE, QUICK)


async def test_a_folder_that_cannot_be_written(tmp_path):
    """Root may write anywhere, so that a folder in the place of a file stands for a missing permission there."""
    source, folder = write_rows(tmp_path / "in.jsonl", 2), tmp_path / "out"
    if os.geteuid():
        folder.mkdir(mode=0o500)
    else:
        (folder / "lock").mkdir(parents=True)
    with pytest.raises(InputError, match=r"cannot write in .*; make it writable or name another output folder"):
        await run(source, folder)


async def test_a_folder_with_someone_elses_output_is_left_alone(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 2), tmp_path / "out"
    folder.mkdir()
    (folder / "output.jsonl").write_text("mine\n")
    with pytest.raises(InputError, match=r"holds output\.jsonl but no run\.json"):
        await run(source, folder)
    assert (folder / "output.jsonl").read_text() == "mine\n"


async def test_the_input_is_never_written_over(tmp_path):
    source = write_rows(tmp_path / "output.jsonl", 2)
    with pytest.raises(InputError, match="is a file this run writes"):
        await run(source, tmp_path)


async def test_a_run_json_that_cannot_be_read_is_refused(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 2), tmp_path / "out"
    folder.mkdir()
    for text in ("", "{", "[]", '{"format": 99}'):
        (folder / "run.json").write_text(text)
        with pytest.raises(InputError, match="is not of a run this version can go on with"):
            await run(source, folder)


async def test_a_shortened_output_is_noticed(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 3), tmp_path / "out"
    await run(source, folder)
    with (folder / "output.jsonl").open("r+b") as handle:
        handle.truncate(100)
    with pytest.raises(InputError, match="has 100 bytes, but"):
        await run(source, folder)


async def test_a_lost_journal_is_noticed_before_anything_is_cut(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 3), tmp_path / "out"
    await run(source, folder)
    (folder / "journal.jsonl").unlink()
    with pytest.raises(InputError, match=r"holds output\.jsonl but its journal\.jsonl is gone"):
        await run(source, folder)
    assert len(read_lines(folder / "output.jsonl")) == 3


@pytest.mark.parametrize(
    "damage",
    [b"garbage\n", b'{"end":7,\n', b'{"call":x}\n', b'{"end":1}\n', b'{"end":1,"to":"x","at":1}\n', b"\0\0\0\0\n"],
)
async def test_a_damaged_journal_is_refused_with_the_place(tmp_path, damage):
    source, folder = write_rows(tmp_path / "in.jsonl", 3), tmp_path / "out"
    await run(source, folder)
    journal = folder / "journal.jsonl"
    head, tail = journal.read_bytes().split(b"\n", 1)
    journal.write_bytes(head + b"\n" + damage + tail)
    with pytest.raises(InputError, match=f"is damaged at byte {len(head) + 1}; .*truncate -s {len(head) + 1}"):
        await run(source, folder)


async def test_a_damaged_call_of_a_row_under_way_is_refused(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 3), tmp_path / "out"
    await run(source, folder)
    journal = folder / "journal.jsonl"
    calls = [line for line in journal.read_bytes().splitlines(True) if line.startswith(b'{"call":')]
    journal.write_bytes(b"".join([b'{"session":1}\n', calls[0][:40] + b"\n", *calls[1:]]))
    with pytest.raises(InputError, match="is damaged at byte 14;"):
        await run(source, folder)


async def test_files_are_for_their_owner_alone(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 1), tmp_path / "out"
    await run(source, folder)
    assert folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())


@pytest.mark.parametrize("wrong", [{"limit": 0}, {"in_flight": 0}, {"grace_s": -1.0}, {"journal_sync_s": -1.0}])
def test_numbers_without_a_meaning_are_refused(wrong):
    with pytest.raises(InputError, match=f"{next(iter(wrong))} is .*; give at least"):
        BatchOptions(**wrong)


async def test_whether_anything_is_left_is_known_before_engines_start(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 6), tmp_path / "out"
    assert check_run(source, folder, RECIPE, QUICK)
    await run(source, folder, options=replace(QUICK, limit=4))
    assert not check_run(source, folder, RECIPE, replace(QUICK, limit=3))
    assert check_run(source, folder, RECIPE, QUICK)
    await run(source, folder)
    assert not check_run(source, folder, RECIPE, replace(QUICK, retry_failed=True))
    with pytest.raises(InputError, match="other settings"):
        check_run(source, folder, RECIPE, replace(QUICK, seed=1))


async def test_failed_rows_are_left_for_a_retry_only(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 2), tmp_path / "out"
    await run(source, folder, scripted_engines("fail_rate: 1.0"))
    assert not check_run(source, folder, RECIPE, QUICK)
    assert check_run(source, folder, RECIPE, replace(QUICK, retry_failed=True))


async def test_a_retry_that_a_limit_would_cut_short_is_refused_and_drops_nothing(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 5), tmp_path / "out"
    await run(source, folder, scripted_engines("fail_rate: 1.0"))
    retry = replace(QUICK, retry_failed=True, limit=2)
    with pytest.raises(InputError, match=r"lie beyond the first 2 \(one is line 5\)"):
        check_run(source, folder, RECIPE, retry)
    with pytest.raises(InputError, match="leave --limit out, or raise it"):
        await run(source, folder, options=retry)
    assert len(read_lines(folder / "errors.jsonl")) == 5
    assert (await run(source, folder, options=replace(retry, limit=5))).succeeded == 5


async def test_a_limit_that_holds_every_failed_row_may_stand_beside_a_retry(tmp_path):
    source, folder = write_rows(tmp_path / "in.jsonl", 5), tmp_path / "out"
    await run(source, folder, scripted_engines("fail_rate: 1.0"), replace(QUICK, limit=2))
    await run(source, folder)
    assert (await run(source, folder, options=replace(QUICK, retry_failed=True, limit=2))).succeeded == 5


def identity_with(vllm: str) -> dict[str, str]:
    text = f"models:\n  m: {{path: /m, vllm: {vllm}}}\nfusions:\n  f: {{panel: [m], mode: best-of}}\n"
    return identity_of_models(parse_config(text), ["m"])


async def test_the_order_of_engine_settings_decides_nothing_and_their_values_are_named(tmp_path):
    settings = identity_with("{max_model_len: 2048, max_num_seqs: 8, more: {a: 1, b: [{c: 2, d: 3}]}}")
    assert settings == identity_with("{more: {b: [{d: 3, c: 2}], a: 1}, max_num_seqs: 8, max_model_len: 2048}")
    other = identity_with("{max_model_len: 1024, max_num_seqs: 8}")
    assert settings != other
    source, folder = write_rows(tmp_path / "in.jsonl", 2), tmp_path / "out"
    await run(source, folder, options=replace(QUICK, identity=settings))
    with pytest.raises(InputError, match=r"other settings \(the engine settings of model m\)"):
        await run(source, folder, options=replace(QUICK, identity=other))


async def test_an_input_whose_name_is_no_utf_8_is_run(tmp_path):
    source = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jsonl"))
    write_rows(source, 2)
    for _ in range(2):
        assert (await run(source, tmp_path / "out")).succeeded == 2
    assert json.loads((tmp_path / "out" / "run.json").read_text())["input"]["path"] == f"{tmp_path}/caf\\xe9.jsonl"


@pytest.mark.parametrize("seed", [2**63, -(2**63) - 1])
def test_a_seed_of_more_than_64_bits_is_refused(seed):
    BatchOptions(seed=2**63 - 1)
    BatchOptions(seed=-(2**63))
    with pytest.raises(InputError, match=f"seed is {seed}; give a whole number from -9223372036854775808 to"):
        BatchOptions(seed=seed)


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(tmp_path):
    (tmp_path / "run.json").mkdir()
    with pytest.raises(RunError, match="cannot write"):
        write_atomically(tmp_path / "run.json", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


async def test_a_journal_with_a_later_retry_is_not_to_be_cut(tmp_path):
    """Ends before the retry vouch for errors that were written over since."""
    source, folder = write_rows(tmp_path / "in.jsonl", 3), tmp_path / "out"
    await run(source, folder, scripted_engines("fail_rate: 1.0"))
    await run(source, folder, options=replace(QUICK, retry_failed=True))
    journal = folder / "journal.jsonl"
    whole = journal.read_bytes()
    early, late = whole.index(b'{"end":'), whole.rindex(b'{"end":')
    assert early < whole.index(b'{"retry":') < late
    for place, is_advised in ((early, False), (late, True)):
        journal.write_bytes(whole[:place] + b"\0" + whole[place + 1 :])
        with pytest.raises(InputError, match=f"is damaged at byte {place}; name another output folder") as caught:
            await run(source, folder)
        assert ("truncate" in caught.value.message) is is_advised


def test_a_sync_never_passes_over_what_came_while_another_was_under_way(tmp_path: Path):
    """Whatever was appended before a sync began is on the disk when it ends: each is either counted or synced anew."""
    file = AppendFile(tmp_path / "file")
    stop = threading.Event()

    def sync() -> None:
        while not stop.is_set():
            file.sync()

    thread = threading.Thread(target=sync)
    thread.start()
    try:
        for number in range(300):
            file.append(b"x" * 100)
            file.sync()
            assert file.synced == file.size == 100 * (number + 1)
    finally:
        stop.set()
        thread.join()
    file.close()
    file.sync()
    with pytest.raises(RunError):
        file.append(b"x")
