"""Where the server listens: the socket, bound before anything else starts, and who can reach it."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from local_fusion.config import ServerSettings
from local_fusion.errors import ConfigError

BACKLOG = 2048


@dataclass(frozen=True)
class Door:
    """Where clients come in. `names`: by which programs of this machine call a server that only they reach."""

    listening: socket.socket
    tls: ssl.SSLContext | None
    url: str
    loopback: bool
    names: frozenset[str]


def open_door(settings: ServerSettings) -> Door:
    """Bind the address of the settings, with their certificate. Raises ConfigError."""
    tls = tls_context(settings)
    listening = bind(settings.host, settings.port)
    names = frozenset({"localhost", "127.0.0.1", "::1", str(listening.getsockname()[0])})
    return Door(listening, tls, url_of(listening, tls is not None), is_loopback(settings.host), names)


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigError: no address, or the port is in use or not ours to take."""
    family, address = _address(host, port)
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(host != "::"))
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as problem:
        listening.close()
        raise ConfigError(
            f"cannot listen on {host} port {port}: {problem.strerror or type(problem).__name__}; "
            "stop what listens there, or give another --host or --port"
        ) from None
    listening.setblocking(False)
    return listening


def is_loopback(host: str) -> bool:
    """Only this machine reaches `host`. Raises ConfigError where it is no address."""
    _, address = _address(host, 0)
    return ipaddress.ip_address(address[0].split("%")[0]).is_loopback


def url_of(listening: socket.socket, tls: bool) -> str:
    """The address to type, with the port that the system chose where none was asked for."""
    host, port = listening.getsockname()[:2]
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
    return f"{'https' if tls else 'http'}://{shown}:{port}"


def tls_context(settings: ServerSettings) -> ssl.SSLContext | None:
    """For the certificate of the settings, None without one. Raises ConfigError."""
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ConfigError("TLS needs both a certificate and its key; give --tls-certificate and --tls-key")
    for file in (certificate, key):
        if not Path(file).expanduser().is_file():
            raise ConfigError(f"there is no file {file}; name PEM files with --tls-certificate and --tls-key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(Path(certificate).expanduser(), Path(key).expanduser(), _no_password)
    except (ssl.SSLError, OSError, ValueError) as problem:
        reason = getattr(problem, "reason", None) or getattr(problem, "strerror", None) or "it is not readable"
        raise ConfigError(
            f"cannot use the certificate {certificate} with the key {key}: {reason}; "
            "both must be PEM files without a password, and belong together"
        ) from None
    return context


def _no_password() -> str:
    raise ValueError("it has a password")


def _address(host: str, port: int) -> tuple[int, tuple[str, int]]:
    """Of a number: names would be asked of the network."""
    try:
        number = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        raise ConfigError(
            f"{host!r} is no address; give --host one of this machine in numbers, or 0.0.0.0 for all of them"
        ) from None
    return (socket.AF_INET if number.version == 4 else socket.AF_INET6), (str(number), port)
