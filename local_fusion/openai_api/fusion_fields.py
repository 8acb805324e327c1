"""What a request says about fusion: OpenRouter's plugin and server tool, and our own key `fusion`, as one value.

Invariant: every field is honoured or refused by name. Accepted because they already hold: `max_tool_calls`, an upper
bound of calls of tools, of which a panel here makes none; `cache_control`, for engines keep every prefix of themselves.
Refused: `tools` other than `[]`, for nothing here may reach the network. Source: OpenRouter's Fusion, August 2026.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from local_fusion.errors import RequestError
from local_fusion.openai_api.refusal import refusal_of
from local_fusion.openai_api.wire import Listed, Wire
from local_fusion.types import Mode

PLUGIN_ID = "fusion"
TOOL_TYPE = "openrouter:fusion"
Effort = Literal["max", "xhigh", "high", "medium", "low", "minimal", "none"]
Include = Literal["panel", "analysis", "usage", "receipt"]
Streaming = Literal["checked", "live"]
_Seconds = Annotated[float, Field(gt=0, le=86_400 * 7)]
_Name = Annotated[str, Field(min_length=1, max_length=128)]
_Names = Annotated[Listed[_Name], Field(min_length=1, max_length=8)]
_Count = Annotated[int, Field(ge=1)]


class CacheControl(Wire):
    """Accepted: every prefix is cached without being asked."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class Reasoning(Wire):
    """How much an inner call may think."""

    effort: Effort | None = None
    max_tokens: Annotated[int, Field(ge=0)] | None = None


class _Common(Wire):
    analysis_models: _Names | None = None
    model: _Name | None = None
    max_tool_calls: Annotated[int, Field(ge=1, le=16)] | None = None
    tools: Listed[dict[str, Any]] | None = None


class Plugin(_Common):
    """An entry of `plugins`."""

    id: Literal["fusion"]
    enabled: bool = True
    preset: _Name | None = None


class ToolConfig(_Common):
    """`parameters` of the server tool."""

    max_completion_tokens: _Count | None = None
    reasoning: Reasoning | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    cache_control: CacheControl | None = None


class ServerTool(Wire):
    """An entry of `tools`."""

    type: Literal["openrouter:fusion"]
    parameters: ToolConfig = ToolConfig()
    cache_control: CacheControl | None = None


class OwnFields(Wire):
    """The key `fusion`: settings of a fusion for this request, and what of the receipt to give back."""

    mode: Mode | None = None
    panel: _Names | None = None
    judge: _Name | None = None
    samples: Annotated[int, Field(ge=1, le=26)] | None = None
    writer: _Name | _Names | None = None
    criteria: Annotated[str, Field(max_length=8000)] | None = None
    quorum: Annotated[int, Field(ge=1, le=26)] | None = None
    deadline_s: _Seconds | None = None
    member_timeout_s: _Seconds | None = None
    straggler_grace_s: _Seconds | None = None
    max_panel_tokens: _Count | None = None
    max_judge_tokens: _Count | None = None
    max_writer_tokens: _Count | None = None
    analysis: bool | None = None
    guard: bool | None = None
    rounds: Annotated[int, Field(ge=1, le=5)] | None = None
    layers: Annotated[int, Field(ge=2, le=6)] | None = None
    stream: Streaming | None = None
    include: Listed[Include] = Field(default_factory=list, max_length=16)

    @field_validator("writer")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value


_PASSED = (
    "mode", "criteria", "quorum", "deadline_s", "member_timeout_s", "straggler_grace_s", "max_panel_tokens",
    "max_judge_tokens", "max_writer_tokens", "analysis", "guard", "rounds", "layers",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class FusionFields:
    """All that a request says about fusion; None where it says nothing.

    `plugin`, `tool`: whether an entry of `plugins` or `tools` asks for fusion; `own`: whether the key `fusion` is
    there. `judge_writes`: the judge was named as OpenRouter does it, where it writes the final answer too.
    `settings`: settings of the fusion by their names in models.yaml. `max_completion_tokens`, `temperature`,
    `effort` and `thinking_tokens` are of each inner call (the temperature of the panel's alone).
    """

    plugin: bool = False
    tool: bool = False
    own: bool = False
    enabled: bool = True
    preset: str | None = None
    panel: tuple[str, ...] | None = None
    judge: str | None = None
    judge_writes: bool = False
    writer: tuple[str, ...] | None = None
    samples: int | None = None
    settings: tuple[tuple[str, Any], ...] = ()
    max_completion_tokens: int | None = None
    temperature: float | None = None
    effort: Effort | None = None
    thinking_tokens: int | None = None
    stream: Streaming | None = None
    include: frozenset[str] = frozenset()

    @property
    def asked(self) -> bool:
        """A plugin or server tool asks for fusion, and none turns it off."""
        return (self.plugin or self.tool) and self.enabled

    @property
    def mode(self) -> str | None:
        return dict(self.settings).get("mode")


def parse_fusion(plugins: Any, tools: Any, own: Any) -> tuple[FusionFields, tuple[Mapping[str, Any], ...]]:
    """The body's `plugins`, `tools` and `fusion`, each as sent (None: left out), to the fields and the client's own
    tools, which are not looked into. Raises RequestError naming the field."""
    fields = FusionFields()
    for place, entry in enumerate(_listed(plugins, "plugins")):
        where = f"plugins.{place}"
        if not isinstance(entry, Mapping) or entry.get("id") != PLUGIN_ID:
            raise RequestError(f"{where} is not known here; the one plugin is {PLUGIN_ID!r}", "unknown_plugin", where)
        if fields.plugin:
            raise RequestError(f"{where}: the fusion plugin is there twice; keep one", "invalid_field", where)
        fields = _with_plugin(fields, _checked(Plugin, entry, where), where)
    client = []
    for place, entry in enumerate(_listed(tools, "tools")):
        where = f"tools.{place}"
        if not isinstance(entry, Mapping):
            raise RequestError(f"{where} must be an object", "invalid_field", where)
        if entry.get("type") != TOOL_TYPE:
            client.append(entry)
            continue
        if fields.tool:
            raise RequestError(f"{where}: the fusion tool is there twice; keep one", "invalid_field", where)
        fields = _with_tool(fields, _checked(ServerTool, entry, where), where)
    if own is not None:
        fields = _with_own(fields, _checked(OwnFields, own, "fusion"))
    return fields, tuple(client)


def _listed(value: Any, name: str) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, list | tuple) or len(value) > 128:
        raise RequestError(f"{name} must be a list of at most 128 entries", "invalid_field", name)
    return value


def _checked(kind: type[Any], value: Any, where: str) -> Any:
    try:
        return kind.model_validate(value)
    except ValidationError as problem:
        raise refusal_of(problem, where) from None


def _with_plugin(fields: FusionFields, plugin: Plugin, where: str) -> FusionFields:
    fields = replace(fields, plugin=True, enabled=plugin.enabled, preset=plugin.preset)
    return _with_models(fields, plugin.analysis_models, plugin.model, plugin.tools, where)


def _with_tool(fields: FusionFields, tool: ServerTool, where: str) -> FusionFields:
    config = tool.parameters
    fields = _with_models(fields, config.analysis_models, config.model, config.tools, f"{where}.parameters")
    reasoning = config.reasoning or Reasoning()
    return replace(
        fields,
        tool=True,
        max_completion_tokens=config.max_completion_tokens,
        temperature=config.temperature,
        effort=reasoning.effort,
        thinking_tokens=reasoning.max_tokens,
    )


def _with_models(
    fields: FusionFields, panel: Sequence[str] | None, judge: str | None, tools: Sequence[Any] | None, where: str
) -> FusionFields:
    if tools:
        raise RequestError(
            f"{where}.tools: this server is offline and its panel calls no tools; give [] or leave it out",
            "unsupported_field",
            f"{where}.tools",
        )
    return replace(
        fields,
        panel=_one(fields.panel, None if panel is None else tuple(panel), f"{where}.analysis_models"),
        judge=_one(fields.judge, judge, f"{where}.model"),
        judge_writes=fields.judge_writes or judge is not None,
    )


def _with_own(fields: FusionFields, own: OwnFields) -> FusionFields:
    settings = {name: value for name in _PASSED if (value := getattr(own, name)) is not None}
    return replace(
        fields,
        own=True,
        panel=_one(fields.panel, None if own.panel is None else tuple(own.panel), "fusion.panel"),
        judge=_one(fields.judge, own.judge, "fusion.judge"),
        writer=None if own.writer is None else tuple(own.writer),
        samples=own.samples,
        settings=tuple(settings.items()),
        stream=own.stream,
        include=frozenset(own.include),
    )


def _one(known: Any, given: Any, where: str) -> Any:
    if known is not None and given is not None and known != given:
        raise RequestError(f"{where} differs from what another field says; give one", "invalid_field", where)
    return known if given is None else given
