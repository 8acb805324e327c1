"""One request as spans: the fusion, and under it a span per call, by the names of the GenAI semantic conventions.

Invariant: nothing that a user or a model wrote is in a span; only names, counts, times, seeds and typed reasons. A
request's id may be a user's own words (`custom_id`), so a span has a digest of it: who knows the id finds its trace.
Spans are made out of the receipt when the request has ended, so that tracing costs nothing while it runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes as gen_ai
from opentelemetry.semconv.attributes.error_attributes import ERROR_TYPE
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from local_fusion import __version__
from local_fusion.errors import FusionError
from local_fusion.types import Failure, Fused, StageUsage

PROVIDER = "local_fusion"
OWN = "local_fusion."
INVOKE, CHAT = "invoke_workflow", "chat"
_SECOND_NS = 1_000_000_000
_IDS = RandomIdGenerator()
_RESOURCE = Resource({"service.name": "local-fusion", "service.version": __version__})
_SCOPE = InstrumentationScope("local_fusion", __version__)
Attributes = dict[str, str | bool | int | float | Sequence[str]]


def spans_of(fused: Fused, began_ns: int, caller: str | None = None) -> list[ReadableSpan]:
    """Of a request that began at the Unix time `began_ns`; the root comes first. `caller`: the name of a key."""
    receipt = fused.receipt
    ended_ns = began_ns + round(receipt.seconds * _SECOND_NS)
    verdict = receipt.verdict
    attributes: Attributes = {
        **_root(fused.request_id, receipt.fusion, caller),
        gen_ai.GEN_AI_RESPONSE_MODEL: fused.model,
        gen_ai.GEN_AI_RESPONSE_FINISH_REASONS: [fused.finish_reason],
        gen_ai.GEN_AI_USAGE_INPUT_TOKENS: fused.tokens.prompt,
        gen_ai.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: fused.tokens.cached,
        gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS: fused.tokens.completion,
        gen_ai.GEN_AI_REQUEST_SEED: receipt.seed,
        f"{OWN}mode": receipt.mode,
        f"{OWN}answers": len(receipt.answers),
        f"{OWN}failures": len(receipt.failures),
        f"{OWN}degraded": bool(fused.degraded),
        f"{OWN}early_exit": receipt.early_exit,
        f"{OWN}aborted": receipt.aborted,
    }
    if verdict is not None:
        attributes[f"{OWN}guard.kept"] = verdict.kept
    root = _span(f"{INVOKE} {receipt.fusion}", None, began_ns, ended_ns, attributes)
    return [
        root,
        *(_call(call, root, began_ns, ended_ns) for call in receipt.calls),
        *(_failure(one, root, ended_ns) for one in receipt.failures),
    ]


def spans_of_failure(
    request_id: str, fusion: str, problem: FusionError, began_ns: int, ended_ns: int, caller: str | None = None
) -> list[ReadableSpan]:
    """Of a request without any answer."""
    attributes = _root(request_id, fusion, caller) | {ERROR_TYPE: problem.code}
    root = _span(f"{INVOKE} {fusion}", None, began_ns, ended_ns, attributes, failed=True)
    return [
        root,
        *(_call(call, root, began_ns, ended_ns) for call in problem.calls),
        *(_failure(one, root, ended_ns) for one in problem.failures),
    ]


def digest_of_id(request_id: str) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a request's id."""
    return hashlib.sha256(request_id.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _root(request_id: str, fusion: str, caller: str | None) -> Attributes:
    attributes: Attributes = {
        gen_ai.GEN_AI_OPERATION_NAME: INVOKE,
        gen_ai.GEN_AI_PROVIDER_NAME: PROVIDER,
        gen_ai.GEN_AI_WORKFLOW_NAME: fusion,
        gen_ai.GEN_AI_REQUEST_MODEL: fusion,
        f"{OWN}request.digest": digest_of_id(request_id),
    }
    if caller is not None:
        attributes[f"{OWN}caller"] = caller
    return attributes


def _call(call: StageUsage, root: ReadableSpan, began_ns: int, ended_ns: int) -> ReadableSpan:
    end = ended_ns if call.ended_s is None else min(ended_ns, began_ns + round(call.ended_s * _SECOND_NS))
    start = max(began_ns, end - round(call.timing.total_s * _SECOND_NS))  # a recalled call is older than its request
    attributes: Attributes = {
        **_of_call(call.model, call.stage, call.sample),
        gen_ai.GEN_AI_RESPONSE_MODEL: call.model,
        gen_ai.GEN_AI_USAGE_INPUT_TOKENS: call.tokens.prompt,
        gen_ai.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: call.tokens.cached,
        gen_ai.GEN_AI_USAGE_OUTPUT_TOKENS: call.tokens.completion,
        f"{OWN}queue_s": call.timing.queued_s,
        f"{OWN}total_s": call.timing.total_s,
        f"{OWN}gpu_s": call.timing.gpu_s,
    }
    if call.seed is not None:
        attributes[gen_ai.GEN_AI_REQUEST_SEED] = call.seed
    if call.timing.first_token_s is not None:
        attributes[gen_ai.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] = call.timing.first_token_s
    return _span(f"{CHAT} {call.model}", root, start, end, attributes)


def _failure(failure: Failure, root: ReadableSpan, ended_ns: int) -> ReadableSpan:
    """A call that gave nothing; the receipt knows no time of it, so it stands at the end of its request."""
    attributes = _of_call(failure.model, failure.stage, failure.sample) | {ERROR_TYPE: failure.reason}
    return _span(f"{CHAT} {failure.model}", root, ended_ns, ended_ns, attributes, failed=True)


def _of_call(model: str, stage: str, sample: int) -> Attributes:
    return {
        gen_ai.GEN_AI_OPERATION_NAME: CHAT,
        gen_ai.GEN_AI_PROVIDER_NAME: PROVIDER,
        gen_ai.GEN_AI_REQUEST_MODEL: model,
        f"{OWN}stage": stage,
        f"{OWN}sample": sample,
    }


def _span(
    name: str,
    root: ReadableSpan | None,
    start_ns: int,
    end_ns: int,
    attributes: Mapping[str, str | bool | int | float | Sequence[str]],
    failed: bool = False,
) -> ReadableSpan:
    above = root.context if root is not None else None
    trace_id = _IDS.generate_trace_id() if above is None else above.trace_id
    context = SpanContext(trace_id, _IDS.generate_span_id(), False, TraceFlags(TraceFlags.SAMPLED))
    return ReadableSpan(
        name=name,
        context=context,
        parent=above,
        resource=_RESOURCE,
        attributes=attributes,
        kind=SpanKind.INTERNAL if root is None else SpanKind.CLIENT,
        status=Status(StatusCode.ERROR) if failed else Status(StatusCode.UNSET),
        start_time=start_ns,
        end_time=end_ns,
        instrumentation_scope=_SCOPE,
    )
