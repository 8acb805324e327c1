"""The settings, each with its meaning and unit; pydantic refuses what is not here."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from local_fusion.types import Mode, Sampling

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")]
Seconds = Annotated[float, Field(gt=0, le=86_400 * 7)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Base: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class SamplingSettings(Settings):
    """How a model samples; what is left out comes from the level above (model, then the runtime's defaults)."""

    max_tokens: Count | None = None
    """Tokens generated at most, reasoning included."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    stop: tuple[str, ...] | None = None
    thinking_token_budget: Annotated[int, Field(ge=0)] | None = None
    """Reasoning tokens at most; needs a `reasoning_parser`."""
    ignore_eos: bool | None = None
    """Generate `max_tokens` whatever the model says: for benchmarks."""
    chat_template_kwargs: dict[str, Any] | None = None
    """Given to the model's chat template, for instance `enable_thinking: false`."""

    def over(self, base: Sampling) -> Sampling:
        """`base` with what is set here put over it."""
        given = {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}
        if "chat_template_kwargs" in given:
            given["chat_template_kwargs"] = dict(base.chat_template_kwargs) | given["chat_template_kwargs"]
        return replace(base, **given)


class ScriptedSettings(Settings):
    """What a scripted engine does: for tests of faults, scale and overhead; no weights, no GPU."""

    answers: tuple[str, ...] = ()
    """Said in turn by seed; `{prompt}`, `{seed}`, `{index}` are filled in. Empty: a seeded sentence."""
    delay_s: Annotated[float, Field(ge=0)] = 0.0
    """Seconds a call takes."""
    delay_spread: Annotated[float, Field(ge=0, le=1)] = 0.0
    """The delay varies by seed up to this share of itself."""
    tokens: Annotated[int, Field(ge=1)] | None = None
    """Completion tokens reported; default: words of the answer."""
    tokens_per_s: Annotated[float, Field(gt=0)] | None = None
    """Speed of streaming, tokens a second."""
    certainty: Annotated[float, Field(gt=0, le=1)] = 0.9
    """exp of the mean token log-probability reported."""
    fail_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of calls that fail with an engine error, by seed."""
    hang_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of calls that never end, by seed."""
    garbage_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of answers that are control characters, fences and broken JSON, by seed."""
    empty_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of answers that are empty, by seed."""
    crash_after: Annotated[int, Field(ge=0)] | None = None
    """The whole process exits at this call number (from 1); 0 at start-up."""
    crash_once_file: str | None = None
    """With `crash_after`: crash only while this file does not exist, and make it first."""
    start_s: Annotated[float, Field(ge=0)] = 0.0
    """Seconds the engine takes to start."""
    prefer: Annotated[str, Field(max_length=2000)] | None = None
    """Label reads favour the candidate whose text contains this."""
    context: Annotated[int, Field(ge=16)] = 32_768
    """Context length in tokens; a token is a word."""


class ModelSettings(Settings):
    """One model: a folder of weights, where it runs, how it samples."""

    path: str | None = None
    """Folder of weights, `${ENV}` allowed, relative to this file; `shipped:NAME` for a model of the package."""
    engine: Literal["vllm", "scripted"] = "vllm"
    gpus: Annotated[float, Field(ge=0)] | None = None
    """GPUs per replica. Default: tensor_parallel x pipeline_parallel where a GPU exists. Below 1: a share of one GPU,
    or the CPU where there is none. 0: the CPU."""
    tensor_parallel: Count = 1
    pipeline_parallel: Count = 1
    nodes: Count = 1
    """Nodes one replica spans; above 1 the engine runs across nodes through Ray."""
    replicas: Count = 1
    """Copies of the model; calls go to the one with the fewest in flight."""
    sampling: SamplingSettings = SamplingSettings()
    reasoning_parser: str | None = None
    """vLLM's reasoning parser, for instance deepseek_r1, qwen3, kimi_k2."""
    tool_parser: str | None = None
    """vLLM's tool-call parser, for instance deepseek_v31, hermes, kimi_k2."""
    vllm: dict[str, Any] = Field(default_factory=dict)
    """Given to vLLM's engine arguments as it stands: max_model_len, quantization, kv_cache_dtype, …"""
    env: dict[str, str] = Field(default_factory=dict)
    """Environment of the host's processes."""
    scripted: ScriptedSettings | None = None
    licence: str | None = None
    """Licence of the weights, as its publisher names it."""
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    """Expected digest of the weights (`local-fusion models --digest` prints it); a model that differs is refused."""
    in_flight: Count | None = None
    """Calls in flight per replica at most; default: what the engine batches, and a tenth more."""
    start_timeout_s: Seconds = 1800.0
    """Seconds a host has to start, and where models take turns to fall asleep and to wake; then it is ended."""
    call_retries: Annotated[int, Field(ge=0, le=10)] = 2
    """Times a call is sent again after its host died."""
    restarts: Annotated[int, Field(ge=-1)] = 3
    """Times in a row a dead host is started again, ten minutes up count as a new beginning; -1: always."""

    @model_validator(mode="after")
    def _whole(self) -> ModelSettings:
        if self.engine == "vllm" and not self.path:
            raise ValueError("a vllm model needs `path`, a folder of weights")
        if self.engine != "scripted" and self.scripted is not None:
            raise ValueError("`scripted` is for `engine: scripted`")
        return self


class MemberSettings(Settings):
    """A model's seat on a panel."""

    model: Name
    samples: Annotated[int, Field(ge=1, le=26)] = 1
    """Answers this member gives, each with its own seed."""
    sampling: SamplingSettings = SamplingSettings()
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Weight of its vote."""


class FusionSettings(Settings):
    """A recipe: who answers, who judges, who writes, and how."""

    panel: Annotated[tuple[MemberSettings, ...], Field(min_length=1, max_length=8)]
    """1 to 8 members; a plain name stands for one sample."""
    judge: Name | None = None
    """Analyses and selects. Default: the first member."""
    writer: tuple[Name, ...] = ()
    """Writes the final answer; the next one steps in where one fails. Default: the judge."""
    mode: Mode = "auto"
    criteria: str = ""
    """What the judge must weigh in particular."""
    quorum: Count = 1
    """Answers needed to go on."""
    member_timeout_s: Seconds | None = 600.0
    """Seconds each call may take, those of judge and writer too; then it has failed. Waiting for a place or for the
    model's turn on the GPUs does not count."""
    straggler_grace_s: Seconds | None = None
    """Seconds that are waited for the rest once the quorum is in; default: as long as they need. Where models take
    turns on the GPUs, each member has as long as the quorum's answers took, and this more, from its own turn on."""
    deadline_s: Seconds | None = None
    """Seconds for the whole request; then the best answer so far is returned."""
    max_panel_tokens: Count | None = None
    max_judge_tokens: Count = 2048
    """Tokens of the analysis at most."""
    max_writer_tokens: Count | None = None
    max_candidate_tokens: Count | None = None
    """Tokens of each answer shown to the judge at most; default: an equal share of its context."""
    analysis: bool = True
    """Merge: analyse before writing. False saves a call."""
    analysis_items: Annotated[int, Field(ge=1, le=20)] = 6
    """Entries of each list of the analysis at most."""
    analysis_chars: Annotated[int, Field(ge=16, le=2000)] = 400
    """Characters of each text of the analysis at most."""
    guard: bool = True
    """Merge: return the best panel answer where the written one is not judged at least as good."""
    guard_margin: Annotated[float, Field(ge=-10, le=10)] = 0.0
    """Log-odds by which the written answer must win."""
    rotations: Annotated[int, Field(ge=1, le=26)] = 2
    """Orders of the candidates a choice is averaged over."""
    tie_margin: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Difference of probability under which the top two are compared as a pair, in both orders."""
    early_exit: bool = True
    """Vote: abort the members that can no longer change the winner."""
    exit_confidence: Annotated[float, Field(gt=0.5, lt=1)] | None = None
    """Vote: ask one sample of each member, then the next, until the leading value stays ahead with this probability;
    `local-fusion calibrate` finds a good one. Default: all samples at once."""
    rounds: Annotated[int, Field(ge=1, le=5)] = 1
    """Debate: rounds of revision."""
    debate_then: Literal["vote", "merge"] = "vote"
    layers: Annotated[int, Field(ge=2, le=6)] = 2
    """Layered: rounds of answers before the writer, the first included."""
    layer_width: Annotated[int, Field(ge=1, le=26)] = 3
    """Layered: how many answers of the layer before each member sees."""
    skip_agreement: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Auto: share of the answers that must agree for the judge to be skipped, where a vote has no majority or the
    answers are too long for one."""
    skip_certainty: Annotated[float, Field(ge=0, le=1)] | None = None
    """Auto: first ask the first member alone; this certain, its answer is returned."""
    kinds: str | None = None
    """Auto: table of kinds of prompts and the recipe that won for each, written by `local-fusion calibrate`; a path."""
    templates: str = "default"
    """Template set: default, short, or the path of a YAML file."""
    judge_sampling: SamplingSettings = SamplingSettings(temperature=0.0)
    writer_sampling: SamplingSettings = SamplingSettings(temperature=0.0)

    @field_validator("panel", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [{"model": entry} if isinstance(entry, str) else entry for entry in value]
        return value

    @field_validator("writer", mode="before")
    @classmethod
    def _one_writer(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fits(self) -> FusionSettings:
        answers = sum(member.samples for member in self.panel)
        if self.quorum > answers:
            raise ValueError(f"quorum {self.quorum} can never be met: the panel gives {answers} answers")
        if answers > 26:
            raise ValueError(f"a panel gives at most 26 answers, this one {answers}")
        return self

    @property
    def judge_name(self) -> str:
        return self.judge or self.panel[0].model

    @property
    def writer_names(self) -> tuple[str, ...]:
        return self.writer or (self.judge_name,)

    @property
    def models(self) -> tuple[str, ...]:
        """Every model this fusion uses, once, in order of use."""
        names = [member.model for member in self.panel]
        return tuple(dict.fromkeys([*names, self.judge_name, *self.writer_names]))


class RuntimeSettings(Settings):
    """How the fleet runs."""

    hosts: Literal["ray", "local"] = "ray"
    """ray: each engine in its own Ray actor. local: engines are held by the driver's process (scripted, debugging)."""
    ray_address: str | None = None
    """Address of a running Ray cluster; default: a private one on this machine."""
    direct: bool = True
    """Speak to hosts on this machine over a Unix socket, not through Ray's slower messages."""
    temp_dir: str | None = None
    """Private folder for Ray's sockets and logs; a short path."""
    in_flight: Count = 256
    """Rows of a batch in flight at most."""
    turns: bool | Literal["auto"] = "auto"
    """Let groups of models take turns on the GPUs; auto: when they do not fit together."""
    probe_timeout_s: Seconds = 10.0
    """Seconds a host has for its one-token probe before it counts as hung."""
    probe_every_s: Seconds = 15.0
    journal_sync_s: Annotated[float, Field(ge=0)] = 1.0
    """Seconds between syncs of the journal to disk; 0: at each write."""
