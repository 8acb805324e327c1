"""Settings of the server: the `server:` block of models.yaml; options of `local-fusion serve` stand above it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from local_fusion.config.schema import Count, Seconds, Settings

Bytes = Annotated[int, Field(ge=1024)]


class ServerSettings(Settings):
    """How fusions are served over HTTP."""

    host: str = "127.0.0.1"
    """Address to bind; anything but loopback needs `keys`."""
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    keys: str | None = None
    """File of hashed keys, made by `local-fusion keys`; default: `keys.yaml` in the state folder, where it exists.
    Without keys, everybody who reaches the port is served, so the server binds to loopback only."""
    tls_certificate: str | None = None
    """PEM file; with `tls_key`, the server speaks HTTPS."""
    tls_key: str | None = None
    state: str | None = None
    """Private folder for files, batches, stored responses and receipts; default: local-fusion in the user's state
    folder."""
    fusions: tuple[str, ...] = ()
    """Fusions served; default: every fusion whose models are all on this machine."""
    in_flight: Count = 256
    """Requests worked on at once; more wait in a queue that is fair between keys."""
    queue: Annotated[int, Field(ge=0)] = 1024
    """Requests that wait at most; beyond it 429 with `retry-after`."""
    queue_timeout_s: Seconds = 60.0
    """Seconds a request waits for its turn at most."""
    stream: Literal["checked", "live"] = "checked"
    """With a guard: `checked` sends the answer when the guard has spoken; `live` sends the writer's tokens as they
    come."""
    tools_without_parser: Literal["refuse", "ignore"] = "refuse"
    """Tools that a client offers to a model without `tool_parser`, which may call them or not: `refuse` the request by
    name, or `ignore` the tools and answer, as chat front ends need that offer theirs with every question."""
    heartbeat_s: Seconds = 10.0
    """Seconds of silence after which a stream sends a comment, so that nobody in between hangs up."""
    probe_timeout_s: Seconds = 8.0
    """Seconds each engine has for the one-token probe of `/health/ready`."""
    drain_s: Seconds = 60.0
    """Seconds that requests under way have to end after SIGTERM."""
    max_body_bytes: Bytes = 16 * 1024 * 1024
    """Bytes of a JSON body at most."""
    max_file_bytes: Bytes = 256 * 1024 * 1024
    """Bytes of one uploaded file at most."""
    max_files: Count = 1000
    """Files kept at once, per key, at most."""
    max_stored_bytes: Bytes = 8 * 1024 * 1024 * 1024
    """Bytes of all files kept, at most, those counted that a batch still reads after they were deleted."""
    max_key_bytes: Bytes = 4 * 1024 * 1024 * 1024
    """The same of one key."""
    file_days: Annotated[float, Field(gt=0)] = 30.0
    """Days that files of batches are kept, and batches that have ended, unless an upload says otherwise; other files
    stay until they are deleted."""
    max_batch_lines: Count = 1_000_000
    batches_at_once: Count = 2
    batch_in_flight: Count = 64
    """Rows of each batch at work at once; their calls go after those of interactive requests."""
    response_days: Annotated[float, Field(gt=0)] = 30.0
    """Days a stored response is kept."""
    receipt_days: Annotated[float, Field(ge=0)] = 30.0
    """Days that receipts of answers are kept, for feedback and calibration; 0: none is written."""
