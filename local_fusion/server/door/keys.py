"""The keys a server honours: read from their file, and again whenever it changes.

Invariant: a secret is compared with every key in the same time; a file that is gone lets nobody in, and one that is
broken changes nothing until it is mended.
"""

from __future__ import annotations

import hmac
import os
from pathlib import Path
from time import monotonic

from local_fusion.config import ServerSettings
from local_fusion.config.keys import KeyEntry, hash_of, keys_file, load_keys
from local_fusion.errors import ConfigError
from local_fusion.server.door.callers import Caller, owns
from local_fusion.server.door.listening import is_loopback
from local_fusion.server.watch.logs import log

_LOOK_EVERY_S = 0.5
_SECRET_CHARS = 512
_MARK_CHARS = 12
_Stamp = tuple[int, int, int] | None


class KeyRing:
    """The keys of one file."""

    def __init__(self, path: Path, look_every_s: float = _LOOK_EVERY_S) -> None:
        """`look_every_s`: how often at most the file is looked at. Raises ConfigError: it is missing or wrong."""
        self._look_every_s = look_every_s
        self.path = path
        self._stamp = _stamp(path)
        self._callers = _callers(load_keys(path))
        self._looked = monotonic()

    def __len__(self) -> int:
        return len(self._callers)

    def caller(self, secret: str) -> Caller | None:
        """Who owns this secret; None where nobody does."""
        self._refresh()
        if not secret or len(secret) > _SECRET_CHARS:
            return None
        given = hash_of(secret)
        found: Caller | None = None
        for known, caller in self._callers:
            if hmac.compare_digest(known, given):
                found = caller
        return found

    def of(self, owner: str) -> Caller | None:
        """The key that what is kept as `owner`'s belongs to, as it stands now; None where it was removed."""
        self._refresh()
        return next((caller for _, caller in self._callers if owns(caller.owner, owner)), None)

    def _refresh(self) -> None:
        now = monotonic()
        if now - self._looked < self._look_every_s:
            return
        self._looked = now
        stamp = _stamp(self.path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        if stamp is None:
            self._callers = []
            log.warning("keys_file_gone", keys=0)
            return
        try:
            self._callers = _callers(load_keys(self.path))
        except ConfigError:
            log.warning("keys_file_broken", kept=len(self._callers))
        else:
            log.info("keys_read", keys=len(self._callers))


def open_keys(settings: ServerSettings) -> KeyRing | None:
    """The keys that the settings ask for; None where everybody of this machine is served.

    Raises ConfigError: the file is missing or wrong, or others could reach a server without keys.
    """
    path = keys_file(settings.keys, settings.state)
    if settings.keys is not None or path.exists():
        return KeyRing(path)
    if not is_loopback(settings.host):
        raise ConfigError(
            f"{settings.host} can be reached from other machines, and there are no keys; make one with "
            "`local-fusion keys add NAME`, or listen on 127.0.0.1"
        )
    return None


def _callers(entries: dict[str, KeyEntry]) -> list[tuple[str, Caller]]:
    return [
        (
            entry.sha256,
            Caller(
                name,
                None if entry.fusions is None else frozenset(entry.fusions),
                entry.parallel,
                entry.tokens_per_minute,
                entry.sha256[:_MARK_CHARS],
            ),
        )
        for name, entry in entries.items()
    ]


def _stamp(path: Path) -> _Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
