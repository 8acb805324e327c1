"""Spans say who, when and how much, never what; they go to a file or a collector on this machine, and nowhere else."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from local_fusion.config import parse_config
from local_fusion.engines.scripted import ScriptedEngine
from local_fusion.errors import FusionError, InputError
from local_fusion.fusion.fuse import fuse
from local_fusion.fusion.recipe import make_recipe
from local_fusion.trace import Tracer, open_tracer
from local_fusion.trace.target import Collector, read_target
from local_fusion.types import Failure, Fused, Message, Request, StageUsage, Timing, Tokens

SECRET_PROMPT, SECRET_ANSWER, SECRET_ID = "xyzzy-question", "plugh-answer", "patient Ida Plover, 1971"
CONFIG = parse_config(
    f"""
models:
  ada: {{engine: scripted, scripted: {{answers: ["The {SECRET_ANSWER} is 1."], delay_s: 0.01}}}}
  bob: {{engine: scripted, scripted: {{answers: ["The {SECRET_ANSWER} is 2."]}}}}
  cyd: {{engine: scripted, scripted: {{fail_rate: 1.0}}}}
fusions:
  trio: {{panel: [ada, bob, cyd], mode: merge}}
  none: {{panel: [cyd], mode: best-of}}
"""
)
REQUEST = Request("row-1", (Message("user", f"What is {SECRET_PROMPT}?"),), seed=5)


async def traced(tracer: Tracer, fusion: str = "trio", request: Request = REQUEST) -> Fused:
    engines = {name: ScriptedEngine(name, settings.scripted) for name, settings in CONFIG.models.items()}
    recipe = make_recipe(fusion, CONFIG.fusions[fusion], CONFIG.models)
    return await tracer.around(fuse)(request, recipe, engines)


def spans_of(line: dict[str, Any]) -> list[dict[str, Any]]:
    return [span for one in line["resourceSpans"] for scope in one["scopeSpans"] for span in scope["spans"]]


def attributes_of(span: dict[str, Any]) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values())) for one in span["attributes"]}


async def test_a_request_is_one_trace_with_a_span_per_call(tmp_path: Path) -> None:
    tracer = open_tracer(str(tmp_path / "spans.jsonl"))
    assert tracer is not None
    before = time.time_ns()
    fused = await traced(tracer)
    tracer.close()
    (line,) = map(json.loads, (tmp_path / "spans.jsonl").read_text().splitlines())
    root, *children = spans_of(line)
    assert root["name"] == "invoke_workflow trio"
    assert "parentSpanId" not in root
    assert {span["traceId"] for span in children} == {root["traceId"]}
    assert {span["parentSpanId"] for span in children} == {root["spanId"]}
    assert len({span["spanId"] for span in (root, *children)}) == len(children) + 1
    assert (len(root["traceId"]), len(root["spanId"])) == (32, 16)
    of_root = attributes_of(root)
    assert of_root["gen_ai.operation.name"] == "invoke_workflow"
    assert of_root["gen_ai.request.model"] == "trio"
    assert of_root["gen_ai.usage.output_tokens"] == str(fused.tokens.completion)
    assert of_root["local_fusion.request.digest"] == hashlib.sha256(b"row-1").hexdigest()[:16]
    assert of_root["local_fusion.degraded"] is True
    calls = [span for span in children if "status" not in span or not span["status"]]
    assert [attributes_of(span)["local_fusion.stage"] for span in calls] == [c.stage for c in fused.receipt.calls]
    for span, call in zip(calls, fused.receipt.calls, strict=True):
        found = attributes_of(span)
        assert found["gen_ai.operation.name"] == "chat"
        assert found["gen_ai.request.model"] == call.model
        assert found["gen_ai.usage.input_tokens"] == str(call.tokens.prompt)
        assert found["gen_ai.usage.cache_read.input_tokens"] == str(call.tokens.cached)
        begun, ended = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
        assert before <= int(root["startTimeUnixNano"]) <= begun <= ended <= int(root["endTimeUnixNano"])
        assert ended - begun <= call.timing.total_s * 1e9 + 2
    failed = [attributes_of(span) for span in children if span.get("status")]
    assert [(one["gen_ai.request.model"], one["error.type"]) for one in failed] == [("cyd", "engine_error")]
    judge = max(int(span["startTimeUnixNano"]) for span in calls)
    assert judge > min(int(span["endTimeUnixNano"]) for span in calls)


async def test_a_failed_request_is_a_trace_with_its_error(tmp_path: Path) -> None:
    tracer = open_tracer(str(tmp_path / "spans.jsonl"))
    assert tracer is not None
    with pytest.raises(FusionError):
        await traced(tracer, "none")
    tracer.close()
    root, child = spans_of(json.loads((tmp_path / "spans.jsonl").read_text()))
    assert (attributes_of(root)["error.type"], root["status"]) == ("all_panels_failed", {"code": 2})
    assert attributes_of(child)["error.type"] == "engine_error"


def test_calls_that_ended_before_a_failure_have_their_spans(tmp_path: Path) -> None:
    tracer = open_tracer(str(tmp_path / "spans.jsonl"))
    assert tracer is not None
    call = StageUsage("panel", "ada", 0, Tokens(7, 0, 3), Timing(total_s=0.1), "row-1/panel/ada/0/ab", ended_s=0.2)
    failures = (Failure("bob", "timeout", "too late"),)
    problem = FusionError("too few answers", "quorum_not_met", failures, (call,))
    tracer.failed("row-1", "trio", problem, time.time_ns() - 10**9)
    tracer.close()
    _, *children = spans_of(json.loads((tmp_path / "spans.jsonl").read_text()))
    ended, failed = map(attributes_of, children)
    assert (ended["gen_ai.request.model"], ended["gen_ai.usage.input_tokens"]) == ("ada", "7")
    assert failed["error.type"] == "timeout"


async def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "spans.jsonl"
    path.write_text('{"resourceSp')
    for _ in range(2):
        tracer = open_tracer(str(path))
        assert tracer is not None
        await traced(tracer)
        tracer.close()
    torn, *whole = path.read_text().splitlines()
    assert torn == '{"resourceSp'
    assert [spans_of(json.loads(line))[0]["name"] for line in whole] == ["invoke_workflow trio"] * 2


async def test_the_file_is_what_a_collector_reads(tmp_path: Path) -> None:
    tracer = open_tracer(str(tmp_path / "spans.jsonl"))
    assert tracer is not None
    fused = await traced(tracer)
    tracer.close()
    line = json.loads((tmp_path / "spans.jsonl").read_text())
    for span in spans_of(line):
        for name in ("traceId", "spanId", "parentSpanId"):  # protobuf's own JSON has bytes in base64
            if name in span:
                span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    message = ParseDict(line, ExportTraceServiceRequest())
    (resource,) = message.resource_spans
    spans = resource.scope_spans[0].spans
    assert len(spans) == 1 + len(fused.receipt.calls) + len(fused.receipt.failures)
    assert (spans[0].kind, spans[1].kind) == (Span.SPAN_KIND_INTERNAL, Span.SPAN_KIND_CLIENT)
    assert spans[-1].status.code == Status.STATUS_CODE_ERROR
    assert resource.resource.attributes[0].value.string_value == "local-fusion"


class _Collector(HTTPServer):
    """Takes what is sent to it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[tuple[str, bytes]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: _Collector

    def do_POST(self) -> None:
        self.server.bodies.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def collector() -> Iterator[_Collector]:
    server = _Collector()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_collector_gets_every_span(collector: _Collector) -> None:
    tracer = open_tracer(collector.address)
    assert tracer is not None
    done = [await traced(tracer, request=Request(f"r{n}", REQUEST.messages)) for n in range(20)]
    await asyncio.to_thread(tracer.close)
    assert {path for path, _ in collector.bodies} == {"/v1/traces"}
    spans = [
        span
        for _, body in collector.bodies
        for one in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in one.scope_spans
        for span in scope.spans
    ]
    assert len(spans) == sum(1 + len(one.receipt.calls) + len(one.receipt.failures) for one in done)
    assert len({span.trace_id for span in spans}) == 20


async def test_no_word_of_prompt_or_answer_is_in_a_span(collector: _Collector, tmp_path: Path) -> None:
    named = Request(SECRET_ID, REQUEST.messages)
    for target in (collector.address, str(tmp_path / "spans.jsonl")):
        tracer = open_tracer(target)
        assert tracer is not None
        fused = await traced(tracer, request=named)
        assert SECRET_ANSWER in fused.text
        with pytest.raises(FusionError):
            await traced(tracer, "none", named)
        await asyncio.to_thread(tracer.close)
    sent = b"".join(body for _, body in collector.bodies) + (tmp_path / "spans.jsonl").read_bytes()
    assert b"invoke_workflow" in sent
    for word in (SECRET_PROMPT, SECRET_ANSWER, SECRET_ID, "scripted failure"):
        assert word.encode() not in sent


async def test_a_collector_that_is_away_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    tracer = Tracer(_Deaf())
    assert (await traced(tracer)).text
    gone = open_tracer("http://127.0.0.1:9")
    assert gone is not None
    begun = time.monotonic()
    await traced(gone)
    assert time.monotonic() - begun < 5.0


class _Deaf:
    """An outlet that keeps nothing."""

    def put(self, spans: object) -> None:
        return

    def close(self) -> None:
        return


@pytest.mark.parametrize(
    ("target", "endpoint"),
    [
        ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
        ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
        ("http://[::1]:4318/custom/path", "http://[::1]:4318/custom/path"),
    ],
)
def test_a_collector_on_this_machine_is_allowed(target: str, endpoint: str) -> None:
    assert read_target(target) == Collector(endpoint)


@pytest.mark.parametrize(
    "target",
    [
        "http://collector:4318",
        "http://10.0.0.1:4318",
        "http://127.0.0.1.example.org",
        "http://127.0.0.1@example.org",
        "http://example.org\\@127.0.0.1",
        "http://localhost.example.org:4318",
        "grpc://127.0.0.1:4317",
        "http://127.0.0.1:4318/?next=http://example.org",
        "http://",
    ],
)
def test_a_collector_elsewhere_is_refused(target: str) -> None:
    with pytest.raises(InputError, match="--trace"):
        read_target(target)


def test_a_collector_elsewhere_may_be_allowed() -> None:
    assert read_target("https://collector.example.org:4318", remote=True) == Collector(
        "https://collector.example.org:4318/v1/traces"
    )


def test_a_file_needs_a_folder(tmp_path: Path) -> None:
    assert read_target(str(tmp_path / "x.jsonl")) == tmp_path / "x.jsonl"
    for wrong in (tmp_path, tmp_path / "nowhere" / "x.jsonl"):
        with pytest.raises(InputError, match="name a file"):
            read_target(str(wrong))


def test_a_device_or_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    for wrong in (tmp_path / "pipe", tmp_path / "link", Path("/dev/null")):
        with pytest.raises(InputError, match="is no file but a pipe or device; name a file"):
            open_tracer(str(wrong))


def test_spans_never_go_to_a_file_that_is_taken(tmp_path: Path) -> None:
    source, fresh = tmp_path / "in.jsonl", tmp_path / "output.jsonl"
    source.write_text("What?\n")
    (tmp_path / "soft").symlink_to(source)
    (tmp_path / "hard").hardlink_to(source)
    (tmp_path / "folder").mkdir()
    for wrong in (source, tmp_path / "soft", tmp_path / "hard", fresh, tmp_path / "folder" / ".." / "output.jsonl"):
        with pytest.raises(InputError, match="is a file of the run itself; name another file"):
            open_tracer(str(wrong), taken=(source, fresh))
    assert (source.read_text(), fresh.exists()) == ("What?\n", False)
    assert read_target(str(tmp_path / "spans"), taken=(source, fresh)) == tmp_path / "spans"


def test_opentelemetry_is_loaded_only_when_asked_for() -> None:
    code = "import sys, local_fusion.trace as t; t.open_tracer(None); sys.exit('opentelemetry' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
