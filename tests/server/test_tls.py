"""HTTPS by certificate files."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import httpx
import pytest

from local_fusion.config import ServerSettings
from local_fusion.errors import ConfigError
from local_fusion.server.door.listening import tls_context
from tests.server.conftest import make_config
from tests.server.sockets import listening, question


def self_signed(folder: Path, name: str = "server") -> tuple[str, str]:
    """A certificate for 127.0.0.1 and its key."""
    certificate, key = str(folder / f"{name}.pem"), str(folder / f"{name}.key")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command = ["openssl", "req", "-x509", "-nodes", "-days", "2", *curve, "-keyout", key, "-out", certificate, *subject]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return certificate, key


async def test_https_with_a_certificate_that_a_client_can_check(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    settings = ServerSettings(tls_certificate=certificate, tls_key=key)
    context = tls_context(settings)
    assert context is not None
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    async with listening(make_config(tmp_path), tls=context) as served:
        trusted = ssl.create_default_context(cafile=certificate)
        async with httpx.AsyncClient(verify=trusted, base_url=f"https://127.0.0.1:{served.port}") as client:
            assert (await client.get("/health/ready")).status_code == 200
            async with client.stream("POST", "/v1/chat/completions", json=question(stream=True)) as answer:
                assert (await answer.aread()).endswith(b"data: [DONE]\n\n")
        async with httpx.AsyncClient() as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"https://127.0.0.1:{served.port}/health/live")
            with pytest.raises(httpx.TransportError):
                await client.get(f"http://127.0.0.1:{served.port}/health/live")


def test_wrong_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    _, other = self_signed(tmp_path, "other")
    empty = tmp_path / "empty.pem"
    empty.touch()
    assert tls_context(ServerSettings()) is None
    for wrong in (
        ServerSettings(tls_certificate=certificate),
        ServerSettings(tls_key=key),
        ServerSettings(tls_certificate=certificate, tls_key=str(tmp_path / "none.key")),
        ServerSettings(tls_certificate=certificate, tls_key=other),
        ServerSettings(tls_certificate=str(empty), tls_key=key),
    ):
        with pytest.raises(ConfigError):
            tls_context(wrong)
