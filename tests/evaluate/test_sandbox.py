"""The sandbox: what passes, what is stopped, and that nothing of it is left running."""

from __future__ import annotations

import asyncio
import subprocess
import time
from pathlib import Path

import pytest

from local_fusion.evaluate.code_scorer import CodeScorer, code_of, program_of
from local_fusion.evaluate.items import Item
from local_fusion.evaluate.sandbox import Limits, Outcome, has_namespace, run_python
from local_fusion.types import Message

SHORT = Limits(wall_s=2.0, cpu_s=1)


async def test_a_program_that_prints_the_word_last_passes() -> None:
    assert await run_python("print('some'); print('word')", "word") == Outcome(True, "passed")


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("raise ValueError('the secret of the prompt')", "ValueError"),
        ("import sys; sys.exit(0)", "exit code 0"),
        ("import os; os._exit(0)", "exit code 0"),
        ("import time; time.sleep(60)", "did not end within 2 s"),
        ("while True: pass", "signal|did not end|exit code"),
        ("x = bytearray(3 << 30)", "MemoryError"),
        ("open('big', 'wb').write(b'x' * (1 << 26)); print('word')", "OSError"),
        ("files = [open('f', 'w') for _ in range(1000)]", "OSError"),
        ("def broken(:", "SyntaxError"),
    ],
)
async def test_what_breaks_a_limit_or_fails_does_not_pass(source: str, told: str) -> None:
    outcome = await run_python(source, "word", SHORT)
    assert not outcome.passed
    assert any(part in outcome.detail for part in told.split("|")), outcome
    assert "secret" not in outcome.detail


async def test_a_flood_of_output_is_read_and_not_kept() -> None:
    outcome = await run_python("for _ in range(200_000): print('x' * 50)\nprint('word')", "word", Limits(wall_s=20))
    assert outcome.passed


async def test_there_is_no_network() -> None:
    if not has_namespace():
        pytest.skip("no user namespaces here")
    source = "import socket; socket.create_connection(('127.0.0.1', 9), 1); print('word')"
    assert not (await run_python(source, "word", SHORT)).passed
    interfaces = "import socket; print([name for _, name in socket.if_nameindex()]); print('word')"
    assert (await run_python(interfaces, "word", SHORT)).passed


async def test_children_die_with_the_program() -> None:
    mark = f"lf-child-{time.time_ns()}"
    source = (
        "import os, sys, time\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0:\n"
        "        os.setsid()\n"
        f"        os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(50)', '{mark}'])\n"
        "time.sleep(0.2)\nprint('word')"
    )
    if not has_namespace():
        pytest.skip("no user namespaces here: a child with a session of its own outlives the program")
    await run_python(source, "word", Limits(wall_s=5))
    await asyncio.sleep(0.3)
    assert mark not in _running()


def _running() -> str:
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout


async def test_the_environment_and_the_folder_are_empty(tmp_path: Path) -> None:
    source = (
        "import os\nassert os.listdir('.') == ['main.py'], os.listdir('.')\n"
        "assert set(os.environ) <= {'PATH', 'HOME', 'TMPDIR', 'LC_ALL'}, list(os.environ)\nprint('word')"
    )
    assert (await run_python(source, "word")).passed


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


def test_the_block_that_defines_the_function_is_taken() -> None:
    assert code_of("```\na\n```\n```py\ndef f(): pass\n```", "f") == "def f(): pass"
    assert code_of("def f(): pass", "f") == "def f(): pass"
    assert program_of(DOUBLE, "```python\ndef double(n): return 2*n\n```", "w").startswith("import math")
