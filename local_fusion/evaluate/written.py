"""Results as files of the evaluation's folder: `results.json` (figures) and `items.jsonl` (every text and grade)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from local_fusion.batch.files import write_atomically
from local_fusion.batch.records import dump
from local_fusion.evaluate.items import Item
from local_fusion.evaluate.measure import Results
from local_fusion.evaluate.panel_study import Study
from local_fusion.evaluate.runner import Evaluated

RESULTS, ITEMS, REPORT = "results.json", "items.jsonl", "report.html"
_DIGITS = 6


def write_results(folder: Path, about: Mapping[str, Any], results: Results, study: Study) -> None:
    """Write `results.json`. `about`: set, fusion, seed, versions and the like. Raises RunError."""
    body = {**about, **results_body(results, study)}
    write_atomically(folder / RESULTS, orjson.dumps(body, option=orjson.OPT_INDENT_2) + b"\n")


def results_body(results: Results, study: Study) -> dict[str, Any]:
    """The figures as plain data; shares of 1, seconds, tokens."""
    figures = asdict(results)
    figures["counted"] = len(results.counted)
    figures["best_member"] = {"by_half": figures.pop("halves"), "in_hindsight": figures.pop("hindsight")}
    figures["least_difference"] = figures.pop("least")
    figures["calibration"] = [asdict(one) for one in study.calibration]
    figures["agreement"] = {
        one: dict(zip(study.models, row, strict=True)) for one, row in zip(study.models, study.agreement, strict=True)
    }
    figures["disagreed"] = sum(study.disagreed)
    rounded: dict[str, Any] = _rounded(figures)
    return rounded


def write_items(folder: Path, evaluated: Evaluated, study: Study) -> None:
    """Write `items.jsonl`: one line per item with the panel's answers and each arm's. Raises RunError."""
    write_atomically(folder / ITEMS, b"".join(dump(row) + b"\n" for row in item_rows(evaluated, study)))


def item_rows(evaluated: Evaluated, study: Study) -> Iterator[dict[str, Any]]:
    """Each item as plain data."""
    for place, item in enumerate(evaluated.items):
        yield {
            "id": item.id,
            "kind": item.kind,
            "match": item.match,
            "question": item.question,
            "expected": expected_text(item),
            "disagreed": study.disagreed[place],
            "best_member": evaluated.best[place],
            "panel": [
                {
                    "model": answer.model,
                    "sample": answer.sample,
                    "text": answer.text,
                    "certainty": answer.certainty,
                    "score": answer.grade.score,
                }
                for answer in evaluated.panel[place]
            ],
            "arms": {one.arm.name: _said(one, place) for one in evaluated.arms},
        }


def expected_text(item: Item) -> str:
    """What a right answer is, in words short enough to read."""
    if item.match == "instructions":
        return ", ".join(str(rule["id"]) for rule in item.expected)
    if item.match == "rubric":
        return f"{len(item.expected)} criteria"
    if item.match in ("points", "pair"):
        return "by the judge"
    return item.expected if isinstance(item.expected, str) else dump(item.expected).decode()


def _said(one: Any, place: int) -> dict[str, Any]:
    said, grade = one.said[place], one.grades[place]
    body: dict[str, Any] = {"texts": list(said.texts), "score": grade.score, "grade": grade.why, "model": said.model}
    if said.why:
        body["why"] = said.why
    if said.failure:
        body["failure"] = said.failure
    if said.verdict is not None:
        body["verdict"] = asdict(said.verdict)
    if said.probabilities:
        body["probabilities"] = [round(value, _DIGITS) for value in said.probabilities]
    return body | {"tokens": asdict(said.tokens), "seconds": round(said.seconds, _DIGITS), "gpu_s": said.gpu_s}


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(entry) for entry in value]
    return value
