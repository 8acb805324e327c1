"""The report of an evaluation: whole in itself, hostile text harmless, filters that tell what they say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from eval_fakes import CONFIG, config_of, engines_of, order_of, recipe_of, run, sums

from local_fusion.evaluate.eval_charts import calibration_chart, frontier_chart
from local_fusion.evaluate.evaluation import conclude
from local_fusion.evaluate.measure import Price, measure
from local_fusion.evaluate.panel_study import Study, study
from local_fusion.evaluate.runner import Evaluated

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> It is 6."
ROOT = Path(__file__).parents[2]
CLIENT = ROOT / ".venv-clients" / "bin" / "python"
BROWSER = shutil.which("chromium")


async def made(folder: Path, count: int = 24, text: str = CONFIG) -> tuple[Path, Evaluated]:
    config = config_of(text)
    order = order_of(folder, sums(count), recipe_of(config))
    evaluated = await run(order, engines_of(config))
    conclude(order, evaluated, {})
    return folder / "report.html", evaluated


def data_of(page: Path) -> list[dict[str, Any]]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found
    rows: list[dict[str, Any]] = json.loads(found.group(1))
    return rows


async def test_tags_say_what_happened_to_an_item(tmp_path: Path) -> None:
    page, evaluated = await made(tmp_path)
    for place, row in enumerate(data_of(page)):
        main, best = evaluated.arm("merge"), evaluated.arm(evaluated.best[place])
        right, alone = main.grades[place].score, best.grades[place].score
        assert ("right" in row["tags"]) == (right == 1)
        assert ("wrong" in row["tags"]) == (right == 0)
        assert ("fusion lost" in row["tags"]) == (right < alone)
        assert ("fusion won" in row["tags"]) == (right > alone)
        acted = [one.said[place].verdict for one in evaluated.arms]
        assert ("guard acted" in row["tags"]) == any(verdict and verdict.kept == "answer" for verdict in acted)
        assert [group["title"] for group in row["groups"]] == ["Item", "Panel", "Arms"]
        assert [part["head"] for part in row["groups"][1]["parts"]] == ["ada", "bob", "cyd"]


async def test_nothing_is_loaded_and_hostile_text_is_text(tmp_path: Path) -> None:
    text = CONFIG.replace('"It is 6."', json.dumps(HOSTILE))
    page, _ = await made(tmp_path, text=text)
    source = page.read_text()
    assert "default-src 'none'" in source
    assert "<img" not in source
    assert source.count("<script") == 2
    assert not re.search(r"""(?:src|href)=["'](?!#)""", source)
    assert " style=" not in source
    assert any(HOSTILE in part["text"] for row in data_of(page) for group in row["groups"] for part in group["parts"])


async def test_charts_show_every_arm_and_the_frontier(tmp_path: Path) -> None:
    _, evaluated = await made(tmp_path)
    results = measure(evaluated, Price())
    assert results is not None
    drawn = frontier_chart(results)
    for arm in results.arms:
        assert f"{arm.name}" in drawn
    points = re.search(r'polyline points="([^"]+)"', drawn)
    assert points
    assert len(points.group(1).split()) == sum(arm.frontier for arm in results.arms)
    xs = [float(pair.split(",")[0]) for pair in points.group(1).split()]
    assert xs == sorted(xs)
    told = study(evaluated)
    assert calibration_chart(told.calibration).count("<circle") == sum(len(one.bins) for one in told.calibration)
    assert calibration_chart(Study((), (), (), ()).calibration) == ""


async def test_in_a_real_browser(tmp_path: Path) -> None:
    if BROWSER is None or not CLIENT.exists():
        pytest.skip("no chromium, or no .venv-clients with playwright in it")
    text = CONFIG.replace('"It is 6."', json.dumps(HOSTILE))
    page, evaluated = await made(tmp_path, text=text)
    seen = _look(page)
    assert (seen["dialogs"], seen["console"], seen["violations"], seen["images"]) == ([], [], [], 0)
    assert seen["requests"] == [page.as_uri()]
    assert not seen["overflows"]
    main = evaluated.arm("merge").grades
    alone = [evaluated.arm(name).grades[place] for place, name in enumerate(evaluated.best)]
    won = sum(grade.score > other.score for grade, other in zip(main, alone, strict=True))
    assert (seen["listed"], seen["found"]) == (24, won)
    assert 0 < won < 24


def _look(page: Path) -> dict[str, Any]:
    program = ROOT / "tests" / "report" / "look.py"
    command = [
        str(CLIENT),
        str(program),
        str(page),
        "--browser",
        str(BROWSER),
        "--chip",
        "fusion won",
        "--width",
        "900",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen
