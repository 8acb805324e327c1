"""The page without a browser: what is served, under which policy, and that the build belongs to its sources."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from local_fusion.server.routes.page import HEADERS

ROOT = Path(__file__).parents[2]
WEB = ROOT / "web"
STATIC = ROOT / "local_fusion" / "server" / "static"
REGISTRY = re.compile("|".join(("registry" + r"\.", '"resol' + 'ved"', r"npmjs\." + "org", r"/npm/" + "-/")))


def sources() -> list[Path]:
    """What the build is made of, in the order in which `web/build.mjs` reads it."""
    own = [WEB / name for name in ("build.mjs", "package.json", "package-lock.json", "tsconfig.json")]
    inside = [path for path in (WEB / "src").rglob("*") if path.is_file()]
    return sorted([*own, *inside], key=lambda path: str(path.relative_to(WEB)))


def test_the_build_belongs_to_the_sources() -> None:
    digest = hashlib.sha256()
    for path in sources():
        digest.update(f"{path.relative_to(WEB)}\0".encode())
        digest.update(path.read_bytes() + b"\0")
    built = json.loads((STATIC / "build.json").read_text("utf-8"))
    assert built["sources"] == digest.hexdigest(), (
        "web/ has changed: run `make web` and commit local_fusion/server/static"
    )


def test_the_build_can_be_made_again_byte_for_byte(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or not (WEB / "node_modules").is_dir():
        pytest.skip("node or web/node_modules is absent; `make web` sets them up")
    subprocess.run([node, "build.mjs", tmp_path / "again"], cwd=WEB, check=True, capture_output=True, timeout=120)
    made = {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}
    assert made == {path.name: path.read_bytes() for path in STATIC.iterdir()}


def test_the_lock_holds_hashes_and_no_registry() -> None:
    text = (WEB / "package-lock.json").read_text("utf-8")
    assert not REGISTRY.search(text)
    packages = json.loads(text)["packages"]
    assert all("integrity" in entry for name, entry in packages.items() if name)
    asked = json.loads((WEB / "package.json").read_text("utf-8"))
    pins = [*asked["dependencies"].values(), *asked["devDependencies"].values()]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", pin) for pin in pins)


def test_the_shell_has_no_inline_code_and_no_outside_address() -> None:
    shell = (STATIC / "page.html").read_text("utf-8")
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|//", shell)
    for name in re.findall(r'(?:src|href)="/static/([^"]+)"', shell):
        content = (STATIC / name).read_bytes()
        assert hashlib.sha256(content).hexdigest()[:12] in name


def test_nothing_of_the_build_inserts_html_or_runs_text() -> None:
    sources_text = "\n".join(path.read_text("utf-8") for path in (WEB / "src").rglob("*.ts*"))
    assert not re.search(r"innerHTML|insertAdjacent|document\.write|eval\(|new Function", sources_text)


async def test_every_address_sends_the_policy(client: httpx.AsyncClient) -> None:
    script = next(path.name for path in STATIC.glob("page-*.js"))
    for address in ("/", "/fleet", f"/static/{script}"):
        answer = await client.get(address)
        assert answer.status_code == 200
        assert {name: answer.headers[name] for name in HEADERS} == dict(HEADERS)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
    policy = HEADERS["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


async def test_the_shell_is_asked_for_again_and_what_has_a_hash_is_kept(client: httpx.AsyncClient) -> None:
    shell = await client.get("/")
    assert shell.headers["cache-control"] == "no-cache"
    again = await client.get("/", headers={"if-none-match": shell.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    style = next(path.name for path in STATIC.glob("page-*.css"))
    kept = await client.get(f"/static/{style}")
    assert "immutable" in kept.headers["cache-control"]
    assert kept.headers["content-type"].startswith("text/css")
    head = await client.head("/")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("name", ["nothing.js", "build.json", "..%2fapp.py", "%2e%2e/app.py", "page.html%00", ""])
async def test_only_files_of_the_build_are_served(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.get(f"/static/{name}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"
