"""Prints where packages may come from, by the environment and pip's configuration: `sources.py links|index|cert`.

uv reads only its own variables; people have long told pip. This reads both, so that one setting is enough.
Standard library alone: it runs before anything is installed.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Iterator
from pathlib import Path


def pip_settings() -> dict[str, str]:
    """pip's own settings that matter here; a later file wins, as with pip."""
    home = Path.home()
    xdg = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [Path("/etc/xdg/pip/pip.conf"), Path("/etc/pip.conf"), home / ".pip/pip.conf", xdg / "pip/pip.conf"]
    if named := os.environ.get("PIP_CONFIG_FILE"):
        files = [] if named == os.devnull else [*files, Path(named)]
    parser = configparser.RawConfigParser(strict=False)
    for file in files:
        try:
            parser.read(file, "utf-8")
        except (configparser.Error, UnicodeDecodeError):
            continue
    found: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            found |= dict(parser.items(section))
    return found


def links(settings: dict[str, str]) -> Iterator[str]:
    """Folders (or pages) of wheels: uv's variable, separated by commas; pip's, by white space; pip's files."""
    named = [
        *os.environ.get("UV_FIND_LINKS", "").split(","),
        *os.environ.get("PIP_FIND_LINKS", "").split(),
        *settings.get("find-links", "").split(),
    ]
    for place in dict.fromkeys(entry.strip() for entry in named):
        if place and ("://" in place or Path(place).is_dir()):
            yield place


def index(settings: dict[str, str]) -> Iterator[str]:
    """The index that pip was told, unless uv was told one itself."""
    if not any(os.environ.get(name) for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL")):
        yield os.environ.get("PIP_INDEX_URL") or settings.get("index-url", "")


def cert(settings: dict[str, str]) -> Iterator[str]:
    """A file of certificates that pip was told."""
    yield os.environ.get("PIP_CERT") or settings.get("cert", "")


if __name__ == "__main__":
    wanted = {"links": links, "index": index, "cert": cert}[sys.argv[1]]
    for line in wanted(pip_settings()):
        if line:
            print(line)
