"""What is counted, for Prometheus: requests, stages, tokens, guard, early exits, failures; engines at each scrape.

Labels are names of routes, models, stages and reasons; never anything a client wrote, nor who asked: every key may read
them. Log lines name the key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from local_fusion.errors import CallError, FusionError, RequestError
from local_fusion.server.problems import Refusal
from local_fusion.types import Fused, Tokens

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_KINDS = ("prompt", "cached", "completion")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Gauges = Callable[[], Iterable[GaugeMetricFamily]]


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "local_fusion_requests", "HTTP requests ended", ["route", "method", "status"], registry=registry
        )
        self._seconds = Histogram(
            "local_fusion_request_seconds", "Seconds of a request", ["route"], buckets=_SECONDS, registry=registry
        )
        self._first_byte = Histogram(
            "local_fusion_first_byte_seconds",
            "Seconds to the first byte of an answer's body",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._refused = Counter("local_fusion_refused", "Requests answered 429", registry=registry)
        self._fused = Counter("local_fusion_fusions", "Fusions ended", ["fusion", "mode"], registry=registry)
        self._degraded = Counter(
            "local_fusion_degraded", "Fusions that ended without a part of them", ["fusion"], registry=registry
        )
        self._calls = Counter("local_fusion_calls", "Engine calls ended", ["model", "stage"], registry=registry)
        self._call_seconds = Histogram(
            "local_fusion_call_seconds", "Seconds of an engine call", ["stage"], buckets=_SECONDS, registry=registry
        )
        self._tokens = Counter("local_fusion_tokens", "Tokens", ["model", "stage", "kind"], registry=registry)
        self._guard = Counter(
            "local_fusion_guard", "What the guard kept: the written text or an answer", ["kept"], registry=registry
        )
        self._early = Counter("local_fusion_early_exits", "Fusions that stopped asking early", registry=registry)
        self._aborted = Counter("local_fusion_aborted_calls", "Calls stopped by an early exit", registry=registry)
        self._member_failures = Counter(
            "local_fusion_call_failures", "Calls that gave nothing", ["model", "stage", "reason"], registry=registry
        )
        self._stages: dict[tuple[str, str], tuple[Counter, Histogram, Counter, Counter, Counter]] = {}
        self._failures = Counter("local_fusion_failures", "Requests without an answer", ["reason"], registry=registry)

    def watch(self, gauges: Gauges) -> None:
        """Ask `gauges` at each scrape: for what is a state and not a count."""
        self._registry.register(_AtScrape(gauges))

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self._registry)

    def request(self, route: str, method: str, status: int, seconds: float, first_byte_s: float | None) -> None:
        """An HTTP request has ended. `route`: the template, not the path."""
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        if first_byte_s is not None:
            self._first_byte.labels(route).observe(first_byte_s)
        if status == 429:
            self._refused.inc()

    def fused(self, fused: Fused) -> None:
        """A fusion has ended with an answer."""
        receipt = fused.receipt
        self._fused.labels(receipt.fusion, receipt.mode).inc()
        if fused.degraded:
            self._degraded.labels(receipt.fusion).inc()
        for call in receipt.calls:
            self.called(call.model, call.stage, call.tokens, call.timing.total_s)
        for failure in receipt.failures:
            self._member_failures.labels(failure.model, failure.stage, failure.reason).inc()
        if receipt.verdict is not None:
            self._guard.labels(receipt.verdict.kept).inc()
        if receipt.early_exit:
            self._early.inc()
        self._aborted.inc(receipt.aborted)

    def called(self, model: str, stage: str, tokens: Tokens, seconds: float | None = None) -> None:
        """One engine call has ended."""
        calls, took, prompt, cached, completion = self._of(model, stage)
        calls.inc()
        if seconds is not None:
            took.observe(seconds)
        prompt.inc(tokens.prompt)
        cached.inc(tokens.cached)
        completion.inc(tokens.completion)

    def _of(self, model: str, stage: str) -> tuple[Counter, Histogram, Counter, Counter, Counter]:
        """The counters of a model's stage; kept, as looking them up costs more than counting."""
        found = self._stages.get((model, stage))
        if found is None:
            prompt, cached, completion = (self._tokens.labels(model, stage, kind) for kind in _KINDS)
            calls = self._calls.labels(model, stage)
            found = self._stages[model, stage] = (calls, self._call_seconds.labels(stage), prompt, cached, completion)
        return found

    def failed(self, problem: BaseException) -> None:
        """A request has ended without an answer."""
        self._failures.labels(_reason(problem)).inc()
        if isinstance(problem, FusionError):
            for failure in problem.failures:
                self._member_failures.labels(failure.model, failure.stage, failure.reason).inc()


class _AtScrape(Collector):
    def __init__(self, gauges: Gauges) -> None:
        self._gauges = gauges

    def collect(self) -> Iterable[GaugeMetricFamily]:
        return self._gauges()

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()


def gauge(name: str, help_text: str, value: float) -> GaugeMetricFamily:
    """A state without labels."""
    return GaugeMetricFamily(f"local_fusion_{name}", help_text, value=value)


def gauges(name: str, help_text: str, labels: tuple[str, ...]) -> GaugeMetricFamily:
    """A state with labels; add to it by `add_metric`."""
    return GaugeMetricFamily(f"local_fusion_{name}", help_text, labels=labels)


def _reason(problem: BaseException) -> str:
    if isinstance(problem, asyncio.CancelledError):
        return "client_gone"
    if isinstance(problem, FusionError | RequestError | Refusal):
        return problem.code
    return problem.reason if isinstance(problem, CallError) else "internal_error"
