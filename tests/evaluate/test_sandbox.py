"""The sandbox: what passes, what is stopped, and that nothing of it is left running."""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path

import pytest

from local_fusion.evaluate.code_scorer import CodeScorer, code_of, program_of
from local_fusion.evaluate.items import Item
from local_fusion.evaluate.sandbox import Hold, Limits, Outcome, best_hold, run_python
from local_fusion.types import Message

SHORT = Limits(wall_s=20.0, cpu_s=2)
HURRIED = Limits(wall_s=2.0, cpu_s=1)


HOLDS = [Hold("nothing"), *([best_hold()] if best_hold().by != "nothing" else [])]
shut = pytest.mark.skipif(best_hold().by == "nothing", reason="no namespaces here")
whole = pytest.mark.skipif(best_hold().by != "all", reason="no mounts of one's own here")
held = pytest.mark.parametrize("hold", HOLDS, ids=[hold.by for hold in HOLDS])


@held
async def test_a_program_that_runs_to_its_end_passes(hold: Hold) -> None:
    assert await run_python("print('some', end='')", hold=hold) == Outcome(True, "passed")


@held
@pytest.mark.parametrize(
    "source",
    [
        "import os; print(open('main.py').read()); os._exit(0)",
        "import os, sys; print(sys.stdin.read(), sys.argv, dict(os.environ)); os._exit(0)",
        "import __main__, sys; print(vars(__main__)); sys.exit(0)",
        "import program, sys; print(vars(program)); sys.exit(0)",
    ],
)
async def test_what_can_be_read_does_not_pass(source: str, hold: Hold) -> None:
    assert not (await run_python(source, SHORT, hold)).passed


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("raise ValueError('the secret of the prompt')", "ValueError"),
        ("import sys; sys.exit(0)", "exit code 0"),
        ("import os; os._exit(0)", "exit code 0"),
        ("import time; time.sleep(60)", "did not end within 2 s"),
        ("while True: pass", "signal|did not end|exit code"),
        ("x = bytearray(3 << 30)", "MemoryError"),
        ("open('big', 'wb').write(b'x' * (1 << 26))", "OSError"),
        ("files = [open('f', 'w') for _ in range(1000)]", "OSError"),
        ("def broken(:", "SyntaxError"),
    ],
)
async def test_what_breaks_a_limit_or_fails_does_not_pass(source: str, told: str) -> None:
    outcome = await run_python(source, HURRIED if "did not end" in told else SHORT)
    assert not outcome.passed
    assert any(part in outcome.detail for part in told.split("|")), outcome
    assert "secret" not in outcome.detail


async def test_a_flood_of_output_is_read_and_not_kept() -> None:
    outcome = await run_python("for _ in range(200_000): print('x' * 50)\n", Limits(wall_s=20))
    assert outcome.passed


@shut
async def test_there_is_no_network() -> None:
    source = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
    assert not (await run_python(source, SHORT)).passed
    interfaces = "import socket; assert [name for _, name in socket.if_nameindex()] == ['lo']"
    assert (await run_python(interfaces, SHORT)).passed


@whole
async def test_nothing_outside_its_folder_is_written_or_deleted(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("as it was")
    source = f"""
import errno, os, subprocess
for spoil in (
    lambda: open({str(tmp_path / "kept")!r}, "w"),
    lambda: open({str(tmp_path / "new")!r}, "w"),
    lambda: os.unlink({str(tmp_path / "kept")!r}),
    lambda: os.chmod({str(tmp_path / "kept")!r}, 0),
    lambda: open("/dev/shm/lf-spoilt", "w"),
    lambda: open("/tmp/lf-spoilt", "w"),
):
    try:
        spoil()
    except OSError as problem:
        assert problem.errno == errno.EROFS, problem
    else:
        raise SystemError("written")
tried = ["mount -o remount,rw /", "umount /tmp", "umount -l .", "unshare --map-root-user --mount mount -o remount,rw /"]
for command in tried:
    subprocess.run(command.split(), capture_output=True)
try:
    open({str(tmp_path / "kept")!r}, "w")
except OSError:
    open("own", "w").write("x")
"""
    assert await run_python(source, Limits(wall_s=20)) == Outcome(True, "passed")
    assert not (tmp_path / "new").exists()
    assert (tmp_path / "kept").read_text() == "as it was"


@whole
async def test_all_files_together_are_limited() -> None:
    fill = "for n in range({}): open(str(n), 'wb').write(b'x' * (4 << 20))"
    assert (await run_python(fill.format(12), SHORT)).passed
    assert (await run_python(fill.format(20), SHORT)).detail == "OSError"


@held
@pytest.mark.parametrize("then", ["", "while True: time.sleep(1)"], ids=["ended", "killed"])
async def test_children_die_with_the_program(hold: Hold, then: str) -> None:
    mark = f"lf-child-{time.time_ns()}"
    source = (
        "import os, sys, time\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        "        if os.fork() == 0:\n"
        f"            os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(50)', '{mark}'])\n"
        "        os._exit(0)\n"
        f"time.sleep(0.2)\nprint('begun')\n{then}"
    )
    outcome = await run_python(source, Limits(wall_s=4 if then else 20), hold)
    assert outcome.passed == (not then), outcome
    await asyncio.sleep(0.3)
    assert mark not in _running()


def _running() -> str:
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


async def test_the_environment_and_the_folder_are_empty(tmp_path: Path) -> None:
    source = (
        "import os\nassert os.listdir('.') == ['main.py'], os.listdir('.')\n"
        "assert set(os.environ) <= {'PATH', 'HOME', 'TMPDIR', 'LC_ALL'}, list(os.environ)\n"
    )
    assert (await run_python(source)).passed


DOUBLE = Item(
    "double",
    (Message("user", "Complete it."),),
    "code",
    "def check(candidate):\n    assert candidate(4) == 8\n    assert candidate(-1) == -2\n",
    {"prompt": 'import math\n\ndef double(n):\n    """Twice n."""\n', "entry_point": "double"},
)


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("```python\ndef double(n):\n    return n + n\n```", 1.0),
        (
            "Sure!\n```python\nprint('an example')\n```\n```python\ndef double(n):\n    return math.prod((2, n))\n```",
            1.0,
        ),
        ("    return 2 * n", 1.0),
        ("```python\ndef double(n):\n    return n * n\n```", 0.0),
        ("```python\ndef double(n):\n    import sys; sys.exit(0)\n```", 0.0),
        ("I cannot.", 0.0),
        ("", 0.0),
    ],
)
async def test_code_is_graded_by_its_tests(text: str, score: float) -> None:
    assert (await CodeScorer().grade(DOUBLE, text)).score == score


BY_HAND = """
def double(n):
    return 2 * n

if __name__ == "__main__":
"""


@pytest.mark.parametrize(
    "by_hand",
    [
        "    print(double(int(input())))",
        "    import sys; sys.exit(0)",
        "    import unittest; unittest.main()",
        "    assert double(1) == 3",
    ],
)
async def test_what_an_answer_does_when_run_by_hand_is_not_run(by_hand: str) -> None:
    assert (await CodeScorer().grade(DOUBLE, f"```python{BY_HAND}{by_hand}\n```")).score == 1.0


@held
async def test_what_looks_up_its_own_module_finds_it(hold: Hold) -> None:
    source = """
from __future__ import annotations
import copy, enum, inspect, pickle, sys, typing
from collections import namedtuple
from dataclasses import KW_ONLY, asdict, dataclass, field

@dataclass(order=True)
class Point:
    x: int
    _: KW_ONLY
    links: list[Point] = field(default_factory=list)
    kind: typing.ClassVar[str] = "point"

class Colour(enum.Enum):
    RED = enum.auto()

class Pair(typing.NamedTuple):
    left: Point
    right: Colour = Colour.RED

Old = namedtuple("Old", "a b")
Made = enum.Enum("Made", "ONE TWO")

def joined(point: Point, pair: Pair) -> Colour: ...

assert asdict(Point(1, links=[Point(2)])) == {"x": 1, "links": [{"x": 2, "links": []}]}
assert typing.get_type_hints(Point)["links"] == list[Point]
assert typing.get_type_hints(Pair) == {"left": Point, "right": Colour}
assert typing.get_type_hints(joined) == {"point": Point, "pair": Pair, "return": Colour}
for one in (Point(1), Colour.RED, Pair(Point(1)), Old(1, 2), Made.TWO, joined):
    assert pickle.loads(pickle.dumps(one)) == one == copy.deepcopy(one)
assert sys.modules[__name__].Point is Point
assert "def joined" in inspect.getsource(joined)
"""
    assert await run_python(source, SHORT, hold) == Outcome(True, "passed")


def test_the_block_that_defines_the_function_is_taken() -> None:
    assert code_of("```\na\n```\n```py\ndef f(): pass\n```", "f") == "def f(): pass"
    assert code_of("def f(): pass", "f") == "def f(): pass"
    assert program_of(DOUBLE, "```python\ndef double(n): return 2*n\n```").startswith("import math")
