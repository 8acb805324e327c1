"""What the calls of a run took: sums by stage and member, and how many were under way when. Memory does not grow with
the run: the time line keeps a fixed number of bins that become wider as the run becomes longer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from local_fusion.types import Stage

STAGES: tuple[str, ...] = get_args(Stage)
BINS = 120
_FIRST_BIN_S = 0.05
_ID = re.compile(rf"^.*?/({'|'.join(STAGES)})/(.+)/\d+/[0-9a-f]+$", re.DOTALL)
_LAST_ID = re.compile(rf"^.*/({'|'.join(STAGES)})/(.+)/\d+/[0-9a-f]+$", re.DOTALL)


@dataclass
class Sums:
    """Of the calls of one stage by one member. Seconds are sums over calls, which overlap."""

    calls: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    prompt: int = 0
    cached: int = 0
    completion: int = 0
    seconds: float = 0.0
    queued_s: float = 0.0
    gpu_s: float = 0.0


class Effort:
    """Takes the journal's call records one by one."""

    def __init__(self) -> None:
        self.by: dict[tuple[str, str], Sums] = {}
        self.timeline = Timeline()

    def add(self, record: Mapping[str, Any]) -> None:
        """Count one call record. Raises KeyError or TypeError where it is none."""
        value = record.get("completion") or record.get("labels")
        stage, model = stage_and_model(record["id"], value["model"] if value else None)
        sums = self.by.setdefault((stage, model), Sums())
        sums.calls += 1
        seconds = 0.0
        if value:
            tokens, timing = value["tokens"], value["timing"]
            sums.prompt += tokens["prompt"]
            sums.cached += tokens["cached"]
            sums.completion += tokens["completion"]
            seconds = timing["total_s"]
            sums.seconds += seconds
            sums.queued_s += timing["queued_s"]
            sums.gpu_s += timing["gpu_s"]
        else:
            reason = record["error"]["reason"]
            sums.failed[reason] = sums.failed.get(reason, 0) + 1
        if "at" in record:
            self.timeline.add(stage, record["at"], seconds)


def stage_and_model(call_id: str, model: str | None) -> tuple[str, str]:
    """Stage and member of a call by its id, row/stage/model/sample/digest, any part of which may hold a slash."""
    if model is not None:
        head, found, _ = call_id.rpartition(f"/{model}/")
        stage = head.rpartition("/")[2]
        if found and stage in STAGES:
            return stage, model
    match = _LAST_ID.match(call_id) or _ID.match(call_id)
    return (match.group(1), match.group(2)) if match else ("other", model or "?")


class Timeline:
    """Call-seconds by stage in bins of equal width, along the run's own time: gaps between sessions are left out."""

    def __init__(self) -> None:
        self.width_s = _FIRST_BIN_S
        self.bins: dict[str, list[float]] = {}
        self.breaks: list[float] = []
        self.end_s = 0.0
        self._offset: float | None = None

    def session(self) -> None:
        """A new session begins: its first call goes on where the last one ended."""
        if self._offset is not None:
            self.breaks.append(self.end_s)
        self._offset = None

    def add(self, stage: str, at: float, seconds: float) -> None:
        """A call that ended at the Unix time `at` and took so long."""
        if self._offset is None:
            self._offset = at - seconds - self.end_s
        end = max(0.0, at - self._offset)
        begin = max(0.0, end - seconds)
        self.end_s = max(self.end_s, end)
        while end >= self.width_s * BINS:
            self._widen()
        bins = self.bins.setdefault(stage, [0.0] * BINS)
        first, last = int(begin / self.width_s), int(end / self.width_s)
        for place in range(first, last + 1):
            low, high = place * self.width_s, (place + 1) * self.width_s
            bins[place] += max(0.0, min(end, high) - max(begin, low))

    def under_way(self) -> dict[str, list[float]]:
        """Mean number of calls under way, by stage, bin by bin, as far as the run went."""
        used = min(BINS, int(self.end_s / self.width_s) + 1)
        known = sorted(self.bins, key=lambda stage: STAGES.index(stage) if stage in STAGES else len(STAGES))
        return {stage: [value / self.width_s for value in self.bins[stage][:used]] for stage in known}

    def _widen(self) -> None:
        self.width_s *= 2
        for stage, bins in self.bins.items():
            pairs = [bins[place] + bins[place + 1] for place in range(0, BINS, 2)]
            self.bins[stage] = pairs + [0.0] * (BINS - len(pairs))
