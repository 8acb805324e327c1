"""OpenTelemetry spans of fused requests, to a file or a collector, never with a word of a prompt or an answer."""

from local_fusion.trace.tracer import Tracer, open_tracer

__all__ = ["Tracer", "open_tracer"]
