"""The page in a real headless Chromium, against a real server on scripted engines. One browser runs all scenes."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from local_fusion.config import Config, parse_config
from local_fusion.config.keys import add_key
from local_fusion.server.door.keys import KeyRing
from tests.server.sockets import listening, until

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-clients" / "bin" / "python"
SCRIPT = Path(__file__).with_name("page_browser.py")
PARTS = [SCRIPT.with_name(f"page_scenes_{part}.py").read_text("utf-8") for part in ("answers", "person", "trouble")]
SCENES = re.findall(r"^@scene\ndef (\w+)", "\n".join(PARTS), re.MULTILINE)
HOSTILE = """Hello <script>alert(1)</script> and
<img src=x onerror="alert(2)">

<script>
alert(10)
</script>

<img src=x onerror=alert(11)>

<div class="card"><iframe src="https://evil.example/frame"></iframe></div>

</textarea></div></article><svg onload=alert(3)> ![spy](https://evil.example/pixel.png)

[bad](javascript:alert(4)) [data](data:text/html,<script>alert(5)</script>) [good](https://good.example/page)

`code <b>` and \u202ereversed\u202c text

| a | b |
|---|---|
| <i>x</i> | ${process.exit()} {{7*7}} |

```html
<script>alert(6)</script>
```
"""
ANALYSIS = {
    "consensus": ["<b>agreed</b>", "two"],
    "contradictions": [{"topic": "<script>alert(7)</script>", "stances": [{"model": "A", "stance": "</li>no"}]}],
    "partial_coverage": [{"models": ["A"], "point": "\u202eturned"}],
    "unique_insights": [{"model": "B", "insight": "<img src=x onerror=alert(8)>"}],
    "blind_spots": ["[click](javascript:alert(9))"],
}


def make(tmp_path: Path) -> Config:
    def scripted(*answers: str, **more: float | str) -> dict[str, object]:
        return {"engine": "scripted", "scripted": {"answers": list(answers), **more}}

    slowly = {"tokens_per_s": 10}
    models = {
        "one": scripted("alpha " + "word " * 10 + "omega", **slowly),
        "two": scripted("alpha **bold** " + "word " * 8 + "omega", **slowly),
        "quick-one": scripted("Quickly said."),
        "quick-two": scripted("Otherwise said."),
        "judge": scripted(json.dumps(ANALYSIS), prefer="In short"),
        "writer": scripted("In short: both are right."),
        "evil-one": scripted(HOSTILE, prefer="Hello"),
        "evil-two": scripted("Second. " + HOSTILE),
        "evil-judge": scripted(json.dumps(ANALYSIS), prefer="Hello"),
        "long-winded": scripted("\n\n".join(f"line {number}" for number in range(151))),
        "hanging": scripted("never", hang_rate=1),
        "broken": scripted("never", fail_rate=1),
    }
    fusions = {
        "slow": {"panel": ["one", "two"], "judge": "judge", "writer": "writer", "mode": "merge"},
        "quick": {"panel": ["quick-one"], "mode": "best-of"},
        "argued": {"panel": ["quick-one", "quick-two"], "judge": "judge", "mode": "debate"},
        "hostile": {"panel": ["evil-one", "evil-two"], "judge": "evil-judge", "writer": "evil-one", "mode": "merge"},
        "lengthy": {"panel": ["long-winded"], "mode": "best-of"},
        "stuck": {"panel": ["hanging", "two"], "mode": "merge", "quorum": 2},
        "half": {"panel": ["quick-one", "broken"], "mode": "best-of"},
        "none": {"panel": ["broken"], "mode": "best-of"},
    }
    whole = {
        "models": models,
        "fusions": fusions,
        "default": "slow",
        "runtime": {"hosts": "local"},
        "server": {"state": str(tmp_path / "state"), "heartbeat_s": 0.5},
    }
    return parse_config(json.dumps(whole))


def why_not() -> str | None:
    """Why there is no browser to test in; None where there is one."""
    if shutil.which("chromium") is None:
        return "no chromium: install Debian's package"
    if not PYTHON.exists():
        return "no .venv-clients with playwright: `make clients` sets it up"
    return None


async def play(origin: str, keyed: str, key: str, *scenes: str) -> dict[str, list[str]]:
    """Run scenes in one browser; what went wrong, by scene."""
    chromium = shutil.which("chromium") or ""
    command = [PYTHON, SCRIPT, origin, chromium, keyed, key, *scenes]
    # Not by asyncio: where Ray runs in this process, it reaps the child before asyncio sees its end.
    printed = (await asyncio.to_thread(subprocess.run, command, stdout=subprocess.PIPE)).stdout
    found: dict[str, list[str]] = json.loads(printed)
    return found


@pytest.fixture(scope="module")
async def faults(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What went wrong, by scene; also whether the servers were left with work."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("page")
    keys = folder / "keys.yaml"
    secret = add_key(keys, "visitor")
    async with (
        listening(make(folder / "open")) as served,
        listening(make(folder / "keyed"), KeyRing(keys)) as keyed,
    ):
        found = await play(served.url, keyed.url, secret, *SCENES)
        await until(lambda: served.running == 0, 5)
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scene", SCENES)
def test_in_the_browser(faults: dict[str, list[str]], scene: str) -> None:
    assert not faults[scene], "\n".join(faults[scene])
