"""What takes spans: a file of OTLP's JSON, a line per request, or a collector by OTLP over HTTP.

Invariant: a collector that is slow or away never holds up a request; a file that cannot be written is a RunError.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import orjson
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from local_fusion.batch.files import AppendFile
from local_fusion.trace.target import Collector

_QUEUE_SPANS = 65_536
_BATCH_SPANS = 512
_EVERY_MS = 1_000
_TIMEOUT_S = 10.0
_KINDS = {SpanKind.INTERNAL: 1, SpanKind.CLIENT: 3}  # as in OTLP's protobuf


class Outlet(Protocol):
    """Takes the spans of one request."""

    def put(self, spans: Sequence[ReadableSpan]) -> None: ...

    def close(self) -> None: ...


class FileOutlet:
    """Appends a line per request, as the OpenTelemetry file exporter does: a collector can read it back."""

    def __init__(self, path: Path) -> None:
        """Raises RunError where the file cannot be opened."""
        self._file = AppendFile(path)
        self._lead = b"\n" if _is_torn(path) else b""

    def put(self, spans: Sequence[ReadableSpan]) -> None:
        self._file.append(self._lead + orjson.dumps(_plain(spans)) + b"\n")
        self._lead = b""

    def close(self) -> None:
        self._file.sync()
        self._file.close()


class CollectorOutlet:
    """Sends spans from a thread of its own; what does not fit its queue is dropped, never waited for."""

    def __init__(self, collector: Collector) -> None:
        import requests
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        session = requests.Session()
        session.trust_env = False  # a proxy of the environment would carry spans away
        session.max_redirects = 0  # and so would an answer that names another address
        exporter = OTLPSpanExporter(endpoint=collector.endpoint, timeout=_TIMEOUT_S, session=session)
        self._processor = BatchSpanProcessor(
            exporter,
            max_queue_size=_QUEUE_SPANS,
            schedule_delay_millis=_EVERY_MS,
            max_export_batch_size=_BATCH_SPANS,
        )

    def put(self, spans: Sequence[ReadableSpan]) -> None:
        for span in spans:
            self._processor.on_end(span)

    def close(self) -> None:
        """Sends what is left."""
        self._processor.force_flush()
        self._processor.shutdown()  # type: ignore[no-untyped-call]


def _is_torn(path: Path) -> bool:
    """It ends within a line, as a process that was killed leaves it."""
    with open(path, "rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - 1))
        return file.read(1) not in (b"", b"\n")


def _plain(spans: Sequence[ReadableSpan]) -> dict[str, Any]:
    """The spans of one request in OTLP's JSON mapping: ids in hexadecimal, whole numbers of 64 bits as text."""
    resource, scope = spans[0].resource, spans[0].instrumentation_scope
    named = {"name": scope.name, "version": scope.version} if scope is not None else {}
    within = [{"scope": named, "spans": [_plain_span(span) for span in spans]}]
    return {"resourceSpans": [{"resource": {"attributes": _attributes(resource.attributes)}, "scopeSpans": within}]}


def _plain_span(span: ReadableSpan) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    if span.context is not None:
        plain = {"traceId": f"{span.context.trace_id:032x}", "spanId": f"{span.context.span_id:016x}"}
    if span.parent is not None:
        plain["parentSpanId"] = f"{span.parent.span_id:016x}"
    plain |= {
        "name": span.name,
        "kind": _KINDS[span.kind],
        "startTimeUnixNano": str(span.start_time),
        "endTimeUnixNano": str(span.end_time),
        "attributes": _attributes(span.attributes or {}),
    }
    if span.status.status_code is StatusCode.ERROR:
        plain["status"] = {"code": span.status.status_code.value}
    return plain


def _attributes(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, str):
        return {"stringValue": value}
    return {"arrayValue": {"values": [_value(one) for one in value]}}
