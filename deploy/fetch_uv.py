"""Fetches the locked uv into a file: `fetch_uv.py .venv/bin/uv`. The file's SHA-256 must be in requirements/uv.txt.

Python's venv needs Debian's python3-venv to install pip, and pip only to install uv: this needs neither.
Looks into the folders of wheels first, then (unless LOCAL_FUSION_OFFLINE=1) into the index.
Standard library alone: it runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import platform
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import sources

LOCK = Path(__file__).parent / "requirements" / "uv.txt"
TIMEOUT_S = 60


def main(target: Path) -> int:
    """Write uv's program to `target`; 0 where that worked."""
    lock = LOCK.read_text("utf-8")
    version = re.search(r"^uv==(\S+)", lock, re.MULTILINE)
    if version is None:
        raise ValueError(f"{LOCK} names no version of uv")
    hashes = set(re.findall(r"sha256:([0-9a-f]{64})", lock))
    for wheel in candidates(version.group(1)):
        data = read(wheel)
        if data is None:
            continue
        if hashlib.sha256(data).hexdigest() not in hashes:
            print(f"{wheel}: its SHA-256 is not in {LOCK.name}", file=sys.stderr)
            continue
        unpack(data, target)
        return 0
    print(f"no wheel of uv {version.group(1)} was found for {platform.machine()}", file=sys.stderr)
    return 1


def candidates(version: str) -> Iterator[str]:
    """Paths and addresses of wheels of this version for this machine, folders first."""
    fits = re.compile(rf"uv-{re.escape(version)}-py3-none-manylinux\S*{re.escape(platform.machine())}\S*\.whl$")
    settings = sources.pip_settings()
    for folder in sources.links(settings):
        if "://" not in folder:
            yield from sorted(str(path) for path in Path(folder).iterdir() if fits.match(path.name))
    if os.environ.get("LOCAL_FUSION_OFFLINE") != "1":
        yield from in_index(fits, settings)


def in_index(fits: re.Pattern[str], settings: dict[str, str]) -> Iterator[str]:
    """Addresses in the index, from its JSON page or its HTML one."""
    told = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL")
    index = told or next(iter(sources.index(settings)), "")
    if not index:  # the public one is known to pip, which is asked next
        return
    page = index.rstrip("/") + "/uv/"
    body = read(page, accept="application/vnd.pypi.simple.v1+json, text/html;q=0.5")
    if body is None:
        return
    text = body.decode("utf-8", "replace")
    if text.lstrip().startswith("{"):
        found = [(str(entry["filename"]), str(entry["url"])) for entry in json.loads(text)["files"]]
    else:
        found = [(name.strip(), link) for link, name in re.findall(r'<a[^>]*href="([^"]+)"[^>]*>([^<]+)</a>', text)]
    for name, link in found:
        if fits.match(name):
            yield urllib.parse.urljoin(page, link).split("#")[0]


def read(place: str, accept: str = "*/*") -> bytes | None:
    """The bytes of a file or an address; None, said on stderr, where there are none."""
    try:
        if "://" not in place:
            return Path(place).read_bytes()
        request = urllib.request.Request(place, headers={"Accept": accept})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return bytes(answer.read())
    except (OSError, urllib.error.URLError) as problem:
        print(f"{place}: {problem}", file=sys.stderr)
        return None


def unpack(wheel: bytes, target: Path) -> None:
    """Write the program inside the wheel to `target`, whole or not at all."""
    with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
        name = next(entry for entry in archive.namelist() if entry.endswith(".data/scripts/uv"))
        program = archive.read(name)
    fresh = target.with_name(target.name + ".new")
    fresh.write_bytes(program)
    fresh.chmod(0o755)
    fresh.replace(target)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
