"""A request's words about fusion, as changes of a fusion's settings: the same keys as in models.yaml.

Explicit models beat the fusion's own; a member that is on its panel already keeps its sampling and weight. Caps of a
request only lower what the models' own settings allow.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local_fusion.config.schema import FusionSettings, MemberSettings, ModelSettings, SamplingSettings
from local_fusion.openai_api.fusion_fields import FusionFields
from local_fusion.openai_api.request import effort_kwargs


def changes_of(settings: FusionSettings, fields: FusionFields, models: Mapping[str, ModelSettings]) -> dict[str, Any]:
    """Settings to put over `settings`; empty where nothing is asked for. Not yet checked."""
    changes: dict[str, Any] = {}
    panel = [_seat(member, fields, models) for member in _members(settings, fields)]
    if panel != [member.model_dump() for member in settings.panel]:
        changes["panel"] = panel
        answers = sum(seat["samples"] for seat in panel)
        if settings.quorum > answers:
            changes["quorum"] = answers
    judging = _inner(fields, models, fields.judge or settings.judge_name)
    if judging:
        changes["judge_sampling"] = _over(settings.judge_sampling, judging)
    own = dict(fields.settings)
    if fields.max_completion_tokens is not None:  # of each call, whatever else is said
        for name in ("max_panel_tokens", "max_judge_tokens"):
            own[name] = _least(own.get(name, getattr(settings, name)), fields.max_completion_tokens)
    if fields.judge is not None:
        changes["judge"] = fields.judge
    if fields.writer is not None:
        changes["writer"] = fields.writer
    elif fields.judge_writes:
        changes["writer"] = ()
    return changes | own


def _members(settings: FusionSettings, fields: FusionFields) -> list[MemberSettings]:
    if fields.panel is None:
        return list(settings.panel)
    known = {member.model: member for member in settings.panel}
    return [known.get(model) or MemberSettings(model=model) for model in fields.panel]


def _seat(member: MemberSettings, fields: FusionFields, models: Mapping[str, ModelSettings]) -> dict[str, Any]:
    given = _inner(fields, models, member.model)
    if fields.temperature is not None:
        given["temperature"] = fields.temperature
    seat = member.model_dump()
    if given:
        seat["sampling"] = _over(member.sampling, given)
    if fields.samples is not None:
        seat["samples"] = fields.samples
    return seat


def _inner(fields: FusionFields, models: Mapping[str, ModelSettings], model: str) -> dict[str, Any]:
    """How an inner call is told to think. A model that does not think keeps any bound, and would refuse one."""
    given: dict[str, Any] = {}
    if fields.effort is not None:
        given["chat_template_kwargs"] = effort_kwargs(fields.effort)
    if fields.thinking_tokens is not None and models[model].reasoning_parser is not None:
        given["thinking_token_budget"] = fields.thinking_tokens
    return given


def _over(sampling: SamplingSettings, given: dict[str, Any]) -> dict[str, Any]:
    own = sampling.model_dump()
    if "chat_template_kwargs" in given:
        given = given | {"chat_template_kwargs": (own["chat_template_kwargs"] or {}) | given["chat_template_kwargs"]}
    return own | given


def _least(first: int | None, second: int) -> int:
    return second if first is None else min(first, second)
