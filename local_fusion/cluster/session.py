"""This process's Ray session: private to it and offline, or a connection to a running cluster.

A private session has its own folder (mode 0700, removed at the end, even after SIGKILL), its own token, random ports
on the loopback address, no dashboard, and reports to nobody. Ray's processes end with the thread that opened it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from local_fusion.cluster.environment import ray_environment
from local_fusion.cluster.guardian import Guardian, guard_folder
from local_fusion.cluster.lean import lean_head
from local_fusion.cluster.placement import Resources
from local_fusion.config import RuntimeSettings
from local_fusion.errors import StartError

NAMESPACE = "local-fusion"
_OBJECT_STORE_BYTES = 100 * 2**20
_TAIL_LINES = 6
_SOCKET_ROOM = 60  # characters Ray adds to the folder for its sockets; the system takes 107 in all
_KEPT = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")


@dataclass
class Session:
    """An open session. A process has one at a time; those who open it again share it, and the last one ends it."""

    folder: Path | None = None
    """Private; None where the cluster is not ours."""
    resources: Resources = field(default_factory=Resources)
    _users: int = 1
    _owned: bool = False
    _guardian: Guardian | None = None
    _before: dict[str, str | None] = field(default_factory=dict)
    _open: ClassVar[Session | None] = None

    @classmethod
    def open(cls, runtime: RuntimeSettings) -> Session:
        """Start or join Ray. Takes seconds; call it on a thread that outlives the session. Raises StartError."""
        if cls._open is not None:
            cls._open._users += 1
            return cls._open
        session = cls()
        try:
            session._begin(runtime)
        except BaseException:
            session._end()
            raise
        cls._open = session
        return session

    def close(self) -> None:
        """End what was started here, once nobody uses it any more."""
        self._users -= 1
        if self._users == 0:
            Session._open = None
            self._end()

    def last_words(self, pid: int) -> str:
        """The last lines the worker process `pid` wrote to its error log; empty where the log is not at hand."""
        if self.folder is None:
            return ""
        for log in self.folder.glob(f"ray/session_latest/logs/worker-*-{pid}.err"):
            lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
            return " | ".join(lines[-_TAIL_LINES:])[-800:]
        return ""

    def _begin(self, runtime: RuntimeSettings) -> None:
        import ray

        _silence()
        if ray.is_initialized():
            pass  # the program has its own; it stays as it is
        elif runtime.ray_address is None:
            self._start(runtime)
        else:
            self._join(runtime.ray_address)
        nodes = [node for node in ray.nodes() if node["Alive"]]
        gpus = [float(node["Resources"].get("GPU", 0.0)) for node in nodes]
        self.resources = Resources(sum(gpus), max(gpus, default=0.0), len(nodes))

    def _end(self) -> None:
        import ray

        if self._owned:
            self._owned = False
            with _own_sigterm():
                ray.shutdown()
        for name, value in self._before.items():
            _set(name, value)
        self._before.clear()
        if self._guardian is not None:
            self._guardian.dismiss()
            self._guardian = None
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    def _start(self, runtime: RuntimeSettings) -> None:
        import ray

        self.folder = _private_folder(runtime.temp_dir)
        self._guardian = guard_folder(self.folder)
        home, token, scratch = (self.folder / name for name in ("home", "token", "tmp"))
        home.mkdir(mode=0o700)
        scratch.mkdir(mode=0o700)
        (home / "ray_bootstrap_config.yaml").write_text("provider: {type: local}\n")
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32))
        environment = ray_environment(home, token, scratch)
        self._before = {name: os.environ.get(name) for name in _KEPT}
        self._owned = True  # from here on there may be something to end
        with _own_sigterm(), _environment(environment), lean_head():
            _reload_token()
            try:
                ray.init(
                    address="local",
                    num_cpus=0,  # logical; hosts ask for none, and no worker is started that nobody asked for
                    include_dashboard=False,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    namespace=NAMESPACE,
                    configure_logging=False,
                    log_to_driver=False,
                    _node_ip_address="127.0.0.2",  # Ray replaces 127.0.0.1 by an outer address
                    _temp_dir=str(self.folder / "ray"),
                )
            except Exception as problem:  # Ray raises bare ones, for one when its processes take too long
                raise StartError(f"Ray did not start on this machine: {problem}") from problem
        for name in _KEPT:
            _set(name, environment[name])

    def _join(self, address: str) -> None:
        import ray

        with _own_sigterm():
            try:
                ray.init(address=address, namespace=NAMESPACE, configure_logging=False, log_to_driver=False)
            except (ConnectionError, RuntimeError, ValueError) as problem:
                raise StartError(
                    f"no Ray cluster answers at runtime.ray_address {address!r}: {problem}; start one there, "
                    "or leave runtime.ray_address out for a private one"
                ) from problem
        self._owned = True


def _private_folder(parent: str | None) -> Path:
    """A new folder, mode 0700, short enough for Ray's sockets. Raises StartError."""
    base = Path(parent).expanduser().resolve() if parent else Path(tempfile.gettempdir())
    try:
        base.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="lf-", dir=base))
    except OSError as problem:
        raise StartError(f"cannot make a folder for Ray in {base}: {problem.strerror}; set runtime.temp_dir") from None
    if len(str(folder)) + _SOCKET_ROOM > 107:
        folder.rmdir()
        raise StartError(f"the path {base} is too long for Ray's sockets; set runtime.temp_dir to a shorter one")
    return folder


def _silence() -> None:
    """Ray prints what its raylet says of dead workers on the program's own output; the fleet reports them itself."""
    from ray._private import worker

    worker._worker_logs_enabled = False
    log = logging.getLogger("ray")
    log.setLevel(max(log.level, logging.ERROR))


def _reload_token() -> None:
    """Ray keeps the first token a process has read; this one is new."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def _own_sigterm() -> Iterator[None]:
    """Ray puts its own handler in place of the program's; put it back."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: Any = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set while Ray's processes are started, which inherit it."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            _set(name, value)


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
