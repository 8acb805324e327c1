"""The private Ray session: closed to others, shared within the process, and the program's own settings left alone."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from local_fusion.config.schema import ModelSettings, RuntimeSettings
from local_fusion.errors import StartError


@pytest.mark.ray
def test_private_and_shared(ray_session: None):
    from local_fusion.cluster.session import Session

    home, terminate = os.environ.get("HOME"), signal.getsignal(signal.SIGTERM)
    first = Session.open(RuntimeSettings())
    second = Session.open(RuntimeSettings())
    try:
        assert first is second
        assert first.folder is not None
        assert stat.S_IMODE(first.folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((first.folder / "token").stat().st_mode) == 0o600
        assert (first.folder / "home" / "ray_bootstrap_config.yaml").is_file()
        assert os.environ.get("HOME") == home
        assert os.environ["RAY_AUTH_MODE"] == "token"
        assert signal.getsignal(signal.SIGTERM) is terminate
    finally:
        folder = first.folder
        second.close()
        first.close()
    assert folder is not None
    assert folder.is_dir(), "the session of the other users must not end"


@pytest.mark.ray
def test_nothing_is_started_that_nobody_asks(ray_session: None):
    """No dashboard, which also reports usage, no autoscaler, no log monitor."""
    started = [" ".join(_command(child)) for child in psutil.Process().children(recursive=True)]
    assert any("gcs_server" in line for line in started), started
    unwanted = ("dashboard/dashboard.py", "autoscaler", "log_monitor")
    assert [line for line in started if any(name in line.split(" --")[0] for name in unwanted)] == []


@pytest.mark.ray
def test_other_programs_find_no_trace_of_it(ray_session: None):
    """Ray's own file for finding the latest cluster does not name ours."""
    import ray

    known = Path("/tmp/ray/ray_current_cluster")
    address = ray.get_runtime_context().gcs_address
    assert not known.exists() or known.read_text().strip() != address
    assert address.startswith("127.")


@pytest.mark.ray
def test_another_program_can_join_with_the_token_and_leaves_it_running(ray_session: None):
    import ray

    program = Path(__file__).with_name("fleet_program.py")
    command = [sys.executable, str(program), "close", ray.get_runtime_context().gcs_address]
    joined = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert joined.stdout.split() == ["up", "closed"], joined.stderr
    assert ray.nodes()[0]["Alive"]


def test_a_folder_too_long_for_sockets_is_refused(tmp_path: Path):
    from local_fusion.cluster.session import _private_folder

    long = tmp_path / ("x" * 80)
    with pytest.raises(StartError, match=r"too long for Ray's sockets; set runtime\.temp_dir"):
        _private_folder(str(long))
    assert list(long.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    from local_fusion.cluster.session import _private_folder

    file = tmp_path / "file"
    file.touch()
    with pytest.raises(StartError, match=r"cannot make a folder for Ray in .*set runtime\.temp_dir"):
        _private_folder(str(file / "below"))


def test_environment_of_a_host(tmp_path: Path):
    from local_fusion.cluster.environment import host_environment, ray_environment

    cpu = host_environment(ModelSettings(engine="scripted", env={"MINE": "1", "OMP_NUM_THREADS": "3"}), on_cpu=True)
    assert cpu["HOME"] == str(Path.home())
    assert cpu["HF_HUB_OFFLINE"] == "1"
    assert (cpu["MINE"], cpu["OMP_NUM_THREADS"], cpu["VLLM_CPU_OMP_THREADS_BIND"]) == ("1", "3", "nobind")
    gpu = host_environment(ModelSettings(engine="scripted"), on_cpu=False)
    assert "OMP_NUM_THREADS" not in gpu
    ray = ray_environment(tmp_path / "home", tmp_path / "token", tmp_path / "tmp")
    assert (ray["HOME"], ray["TMPDIR"]) == (str(tmp_path / "home"), str(tmp_path / "tmp"))
    assert ray["RAY_USAGE_STATS_REPORT_URL"] == "http://127.0.0.1:9/"
    assert ray["RAY_USAGE_STATS_ENABLED"] == "0"


def _command(process: psutil.Process) -> list[str]:
    """Its command line; empty where it has just ended."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
