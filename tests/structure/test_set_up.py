"""The lock files and the commands of the set-up: hashed, without addresses, of one mind with pyproject.toml."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from rooms import ROOT

REQUIREMENTS = ROOT / "deploy" / "requirements"
LOCKS = ("clients", "cpu", "cuda", "dev", "torch-cpu", "uv")
PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)(?:\[[^]]*\])?==([^ ;\\]+)", re.MULTILINE)


def pins(lock: str) -> dict[str, set[str]]:
    """Versions by name; a name may have one per Python or platform."""
    found: dict[str, set[str]] = {}
    for name, version in PIN.findall((REQUIREMENTS / f"{lock}.txt").read_text("utf-8")):
        found.setdefault(name, set()).add(version)
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_names_versions_and_hashes_and_no_addresses(lock: str) -> None:
    text = (REQUIREMENTS / f"{lock}.txt").read_text("utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*(-f|-i|--(index|extra-index|find-links|trusted))", text, re.MULTILINE)
    entries = re.split(r"\n(?=[a-z0-9])", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).strip())
    assert all(PIN.match(entry) and "--hash=sha256:" in entry for entry in entries)


@pytest.mark.parametrize("runtime", ["cpu", "cuda"])
def test_the_tools_agree_with_the_runtime(runtime: str) -> None:
    locked, tools = pins(runtime), pins("dev")
    assert {name: (locked[name], tools[name]) for name in locked.keys() & tools if locked[name] != tools[name]} == {}


def test_the_cpu_runtime_leaves_out_what_breaks_it() -> None:
    assert pins("cpu").keys() & {"torch", "torchvision", "torchaudio", "torchcodec", "vllm"} == set()
    assert pins("torch-cpu")["torch"] == {"2.13.0+cpu"}


@pytest.mark.parametrize("runtime", ["cpu", "cuda"])
def test_everything_the_package_asks_for_is_locked(runtime: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    asked = [*project["project"]["dependencies"], *project["project"]["optional-dependencies"][runtime]]
    locked = pins(runtime).keys() | (pins("torch-cpu").keys() if runtime == "cpu" else set())
    assert {_name(entry) for entry in asked} - locked == set()
    tools = {_name(entry) for entry in project["dependency-groups"]["dev"]}
    assert tools - pins("dev").keys() == set()


@pytest.mark.parametrize(
    "script", ["deploy/setup.sh", "deploy/clients.sh", "deploy/lock.sh", "deploy/wheels.sh", ".ci/run"]
)
def test_the_scripts_are_executable_and_parse(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    assert subprocess.run(["bash", "-n", ROOT / script], capture_output=True).stderr == b""


@pytest.mark.parametrize(
    ("environment", "conf", "expected"),
    [
        ({}, "", []),
        ({"PIP_FIND_LINKS": "{a} {b}"}, "", ["{a}", "{b}"]),
        ({"UV_FIND_LINKS": "{a},{b}"}, "", ["{a}", "{b}"]),
        ({"UV_FIND_LINKS": "{b}", "PIP_FIND_LINKS": "{a} {b}"}, "", ["{b}", "{a}"]),
        ({}, "[global]\nfind-links = {a}\n", ["{a}"]),
        ({}, "[install]\nfind-links =\n  {a}\n  {b}\n", ["{a}", "{b}"]),
        ({"PIP_FIND_LINKS": "{a}/missing"}, "", []),
        ({"PIP_FIND_LINKS": "https://wheels.example/all"}, "", ["https://wheels.example/all"]),
    ],
)
def test_folders_of_wheels_are_found_where_people_name_them(
    environment: dict[str, str], conf: str, expected: list[str], tmp_path: Path
) -> None:
    places = {"a": str(tmp_path / "a"), "b": str(tmp_path / "b")}
    for place in places.values():
        Path(place).mkdir()
    (tmp_path / "pip.conf").write_text(conf.format(**places))
    clean = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}
    clean |= {name: value.format(**places) for name, value in environment.items()}
    done = subprocess.run(
        [sys.executable, ROOT / "deploy/sources.py", "links"], env=clean, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [entry.format(**places) for entry in expected]


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"PYTHON": "no-such-python"}, "no Python 3.11 or 3.12 was found"),
        ({"LOCAL_FUSION_ENGINE": "abacus"}, "LOCAL_FUSION_ENGINE is 'abacus'; it can be cpu or cuda."),
        ({"LOCAL_FUSION_OFFLINE": "1"}, "LOCAL_FUSION_OFFLINE=1 needs a folder of wheels"),
        ({"LOCAL_FUSION_OFFLINE": "1", "UV_FIND_LINKS": "."}, "uv cannot be had from the folder of wheels . alone"),
    ],
)
def test_a_set_up_that_cannot_be_is_one_sentence(environment: dict[str, str], sentence: str, tmp_path: Path) -> None:
    _copy_of_the_scripts(tmp_path)
    clean = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PIP_CONFIG_FILE": os.devnull, "PYTHON": sys.executable}
    done = subprocess.run(
        [tmp_path / "deploy/setup.sh"], env=clean | environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"set-up failed: {sentence}")
    assert len(done.stderr.splitlines()) == 1


def _name(requirement: str) -> str:
    return re.split(r"[<>=\[ ]", requirement)[0].lower().replace(".", "-")


def _copy_of_the_scripts(folder: Path) -> None:
    subprocess.run(["cp", "-r", ROOT / "deploy", ROOT / "pyproject.toml", folder], check=True)
