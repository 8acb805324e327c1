"""Which code an answer gives: fences of every kind, helpers in blocks of their own, and what is none of it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from local_fusion.evaluate.code_scorer import code_of, program_of
from local_fusion.evaluate.items import Item
from local_fusion.types import Message

FUNCTION = "def near(a, b):\n    return abs(a - b) < 1\n"
ITEM = Item(
    "near",
    (Message("user", "Complete it."),),
    "code",
    "def check(candidate):\n    assert candidate(1, 1.5)\n    assert not candidate(1, 3)\n",
    {"prompt": 'from typing import List\n\ndef near(a, b):\n    """Close."""\n', "entry_point": "near"},
)


def right(text: str, item: Item = ITEM) -> bool:
    """The answer passes its tests; it is one of this file, so no sandbox is needed."""
    space: dict[str, Any] = {"__name__": "program"}
    try:
        exec(compile(program_of(item, text), "answer", "exec"), space)
    except Exception:
        return False
    return True


def block(code: str, language: str = "python") -> str:
    return f"```{language}\n{code}```\n"


@pytest.mark.parametrize("language", ["python", "Python", "py", "python3", "python3.11", " python", "", "   "])
def test_a_fence_may_name_python_in_any_way(language: str) -> None:
    assert right(f"Here:\n{block(FUNCTION, language)}This works.")


@pytest.mark.parametrize("language", ['python title="near.py"', "python {linenos=true}", "{.python .numberLines}"])
def test_a_fence_may_have_attributes(language: str) -> None:
    assert right(block(FUNCTION, language) + "This works.")


@pytest.mark.parametrize("language", ["bash", "text", "plaintext", "pycon", "python-repl", "c++"])
def test_blocks_in_other_languages_are_passed_over(language: str) -> None:
    other = block("for each pair, compare\n", language)
    assert right(f"First:\n{other}\nThen:\n\n{block(FUNCTION)}\nDone.")
    assert right(f"Here:\n{block(FUNCTION)}\nShown:\n{other}")


@pytest.mark.parametrize(
    "text",
    [
        f"~~~python\n{FUNCTION}~~~\nDone.",
        f"````python\n{FUNCTION}````\nDone.",
        block(FUNCTION).replace("\n", "\r\n") + "Done.\r\n",
        f"```python\n{FUNCTION}",
        f"Sure! {block(FUNCTION)}Done.",
        f"```python\n{FUNCTION} ```\nDone.",
        "1. So:\n\n" + "".join(f"   {line}\n" for line in block(FUNCTION).splitlines()) + "\n2. Done.",
        "- ```python\n" + "".join(f"  {line}\n" for line in FUNCTION.splitlines()) + "  ```\n- Done.",
        "1. So:\n   ```python\n" + "".join(f"   {line}\n" for line in FUNCTION.splitlines()) + "```\nDone.",
        f"````markdown\n# Answer\n{block(FUNCTION)}````\nDone.",
        f"```text\nnever ended\n\n{block(FUNCTION)}Done.",
    ],
    ids=["tildes", "four", "crlf", "open", "inline", "deeper", "list", "point", "shallower", "wrapped", "unended"],
)
def test_fences_of_every_kind(text: str) -> None:
    assert right(text)


def test_fences_in_a_docstring_end_nothing() -> None:
    documented = (
        'def near(a, b):\n    """Close:\n\n    ```python\n    near(1, 1)\n    ```\n    """\n    return abs(a - b) < 1\n'
    )
    assert right(block(documented) + "Done.")


def test_the_code_of_an_indented_fence_that_is_not_indented_stays_as_it_is() -> None:
    assert right(f"1. So:\n    ```python\n{FUNCTION}    ```\n")


def test_a_function_is_found_by_its_whole_name() -> None:
    assert right(block(FUNCTION) + block("def near_test():\n    assert near(1, 1)\n"))
    assert right(block("def  near (a, b):\n    return abs(a - b) < 1\n"))
    assert code_of(block("async def f():\n    pass\n") + block("f_two = 1\n"), "f").startswith("async def f")


def test_the_last_of_several_definitions_is_taken() -> None:
    wrong = block("def near(a, b):\n    return True\n")
    assert right(wrong + block(FUNCTION))
    assert not right(block(FUNCTION) + wrong)


@pytest.mark.parametrize(
    "earlier",
    [
        "import math\n",
        "from math import *\n",
        "from math import fabs as distance\n",
        "def distance(a):\n    return abs(a)\n",
        'class math:\n    """Ours."""\n\n    fabs = abs\n',
        "try:\n    import math\nexcept ImportError:\n    math = None\n",
    ],
)
def test_helpers_and_imports_of_earlier_blocks_are_put_in_front(earlier: str) -> None:
    called = "distance" if "distance" in earlier else "fabs" if "*" in earlier else "math.fabs"
    assert right(block(earlier) + "and\n" + block(FUNCTION.replace("abs", called)))


@pytest.mark.parametrize("shown", ["print(distance(1))\n", "assert near(1, 1)\n", "for a in [1]:\n    near(a, a)\n"])
def test_what_shows_how_a_helper_is_used_is_left_out(shown: str) -> None:
    helper = "import functools\n\n@functools.lru_cache\ndef distance(a):\n    return abs(a)\n\n"
    assert right(block(helper + shown) + block(FUNCTION.replace("abs", "distance")))


def test_helpers_of_helpers_are_found() -> None:
    first, second = "import math\n", "def distance(a):\n    return math.fabs(a)\n"
    assert right(block(first) + block("print(1)\n") + block(second) + block(FUNCTION.replace("abs", "distance")))


@pytest.mark.parametrize(
    "earlier",
    [
        "assert near(1, 1)\n",
        "print(near(1, 1))\n",
        "a = 1\nb = 2\nclose = near(a, b)\n",
        "for a in range(3):\n    near(a, a)\n",
        "@cached\ndef near(a, b):\n    return False\n",
        "from numpy_that_is_not_here import *\n",
        "abs = 5\n",
        "def broken(:\n",
        "-" * 100_000 + "\n",
    ],
)
def test_what_shows_or_is_not_needed_stays_out(earlier: str) -> None:
    assert right(block(earlier) + block(FUNCTION))


def test_a_future_import_comes_first() -> None:
    assert right(block("from __future__ import annotations\n" + FUNCTION))


@pytest.mark.parametrize(
    "text",
    [
        "`" * 200_000,
        "```\n" * 50_000,
        "```python\n" * 20_000,
        "```" + " " * 200_000 + "`",
        "\n" * 200_000,
        " " * 200_000 + "\n```",
        "`" * 100_000 + "x`" + "~" * 100_000,
        "def near " * 25_000,
        "```python\ndef " + " " * 200_000 + "near\n```",
        "```python\nx = 1\n```\n" * 8_000 + block(FUNCTION),
        "- " * 100_000 + "```",
    ],
)
def test_hostile_text_is_read_quickly(text: str) -> None:
    begun = time.process_time()
    program_of(ITEM, text)
    assert time.process_time() - begun < 5
