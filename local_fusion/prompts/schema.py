"""The analysis as a JSON schema that an engine can be held to, and back to a value."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from local_fusion.types import Analysis, Contradiction, Coverage, Insight, Stance


def analysis_schema(labels: Sequence[str], max_items: int = 6, max_chars: int = 400) -> dict[str, Any]:
    """JSON schema of the five lists with candidates named by letter; every list and string is bounded, so that a
    guided engine always comes to an end. Source: OpenRouter Fusion's `FusionAnalysisResult`."""
    text = {"type": "string", "maxLength": max_chars}
    letter = {"type": "string", "enum": list(labels)}

    def array(item: dict[str, Any], most: int) -> dict[str, Any]:
        return {"type": "array", "items": item, "maxItems": most}

    def record(**properties: Any) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }

    count = len(labels)
    return record(
        consensus=array(text, max_items),
        contradictions=array(record(topic=text, stances=array(record(model=letter, stance=text), count)), max_items),
        partial_coverage=array(record(models=array(letter, count), point=text), max_items),
        unique_insights=array(record(model=letter, insight=text), max_items),
        blind_spots=array(text, max_items),
    )


def parse_analysis(text: str, names: Mapping[str, str]) -> Analysis:
    """Read the judge's JSON; `names` maps letters to model names. Raises ValueError when it is not the five lists."""
    data = json.loads(text, strict=False)
    if not isinstance(data, dict):
        raise ValueError("the analysis is not a JSON object")
    try:
        return Analysis(
            consensus=_strings(data["consensus"]),
            contradictions=tuple(
                Contradiction(
                    str(entry["topic"]),
                    tuple(Stance(_name(s["model"], names), str(s["stance"])) for s in entry["stances"]),
                )
                for entry in data["contradictions"]
            ),
            partial_coverage=tuple(
                Coverage(tuple(_name(model, names) for model in entry["models"]), str(entry["point"]))
                for entry in data["partial_coverage"]
            ),
            unique_insights=tuple(
                Insight(_name(entry["model"], names), str(entry["insight"])) for entry in data["unique_insights"]
            ),
            blind_spots=_strings(data["blind_spots"]),
        )
    except (KeyError, TypeError) as problem:
        raise ValueError(f"the analysis lacks a field: {problem}") from None


def _strings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise ValueError("a list of the analysis holds something that is not text")
    return tuple(value)


def _name(label: Any, names: Mapping[str, str]) -> str:
    if label not in names:
        raise ValueError("the analysis names an answer that was not shown")
    return names[label]
