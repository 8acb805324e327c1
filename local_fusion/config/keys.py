"""The file of keys: names, what each key allows, and the hash of its secret. The secret itself is written nowhere.

Secrets are 256 random bits, so a plain SHA-256 cannot be turned back; no slow hash is needed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, ValidationError

from local_fusion.config.load import sentence
from local_fusion.config.schema import Count, Settings
from local_fusion.errors import ConfigError

PREFIX = "lf-"
NO_KEY = "local"
"""Who asks a server without keys: no key may be called so."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")
_HEAD = (
    "# Keys of local-fusion; change them with `local-fusion keys`. A server started with this file reads changes by\n"
    "# itself; one started without keys has to be started again.\n"
)


class KeyEntry(Settings):
    """One key. `sha256`: of its secret, hexadecimal."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    fusions: tuple[str, ...] | None = None
    """Fusions and members it may use; default: all."""
    parallel: Count | None = None
    """Requests at once."""
    tokens_per_minute: Count | None = None
    """Tokens a minute, of prompts and answers, over all stages."""
    created: str | None = None


class _File(Settings):
    keys: dict[str, KeyEntry] = Field(default_factory=dict)


def keys_file(given: str | None, state: str | None) -> Path:
    """The file of keys: as given, else `keys.yaml` in the server's state folder."""
    if given is not None:
        return Path(given).expanduser()
    return state_folder(state) / "keys.yaml"


def state_folder(given: str | None) -> Path:
    """The server's private folder: as given, else `local-fusion` in the user's state folder (XDG)."""
    if given is not None:
        return Path(given).expanduser()
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local" / "state") / "local-fusion"


def new_secret() -> str:
    """A secret to give to a user, once."""
    return PREFIX + secrets.token_urlsafe(32)


def hash_of(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def load_keys(path: Path) -> dict[str, KeyEntry]:
    """The keys of a file, by name; YAML or JSON. Raises ConfigError, which repeats no hash."""
    try:
        data: Any = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no file of keys {path}; make one with `local-fusion keys add NAME`") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(f"cannot read the file of keys {path}: {type(problem).__name__}") from None
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, RecursionError):  # the 45th of a month, for one
        raise ConfigError(
            f"the file of keys {path} is not YAML; make it anew with `local-fusion keys add NAME`"
        ) from None
    try:
        entries = _File.model_validate(data or {}).keys
    except ValidationError as problem:
        raise ConfigError(sentence(problem, _File, f"the file of keys {path}")) from None
    for name in entries:
        check_name(name)
    return entries


def save_keys(path: Path, entries: Mapping[str, KeyEntry]) -> None:
    """Write the file whole, readable by its owner alone. Raises ConfigError."""
    shape = {"keys": {name: entry.model_dump(mode="json", exclude_none=True) for name, entry in entries.items()}}
    text = _HEAD + yaml.safe_dump(shape, sort_keys=False)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, written = tempfile.mkstemp(prefix=".keys-", dir=path.parent)  # mode 0600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(written).replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(written).unlink()
            raise
    except OSError as problem:
        raise ConfigError(
            f"cannot write the file of keys {path}: {problem.strerror}; name another with --file"
        ) from None


def add_key(
    path: Path,
    name: str,
    fusions: tuple[str, ...] | None = None,
    parallel: int | None = None,
    tokens_per_minute: int | None = None,
) -> str:
    """Add a key and return its secret, shown now or never. Raises ConfigError: the name is taken, or is none."""
    check_name(name)
    entries = load_keys(path) if path.exists() else {}
    if name in entries:
        raise ConfigError(f"there is a key called {name!r}; remove it first, or choose another name")
    secret = new_secret()
    entry = KeyEntry(
        sha256=hash_of(secret),
        fusions=fusions,
        parallel=parallel,
        tokens_per_minute=tokens_per_minute,
        created=datetime.now(UTC).strftime("%Y-%m-%d"),
    )
    save_keys(path, {**entries, name: entry})
    return secret


def remove_key(path: Path, name: str) -> None:
    """Take a key out. Raises ConfigError where there is none of that name."""
    entries = load_keys(path)
    if name not in entries:
        known = ", ".join(entries) or "none"
        raise ConfigError(f"no key is called {name!r}; there are: {known}")
    save_keys(path, {other: entry for other, entry in entries.items() if other != name})


def check_name(name: str) -> None:
    """Raises ConfigError for a name that would not do in a log line or a folder."""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name[:64]!r} is no name for a key; use letters, digits and `_.@-`, 64 at most")
    if name == NO_KEY:
        raise ConfigError(f"{name!r} is what servers without keys call everybody; choose another name")
