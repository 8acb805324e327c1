"""The table of rooms: who may import whom, and which file may touch what is heavy or reaches outside."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "local_fusion"

# A room imports only from rows above its own (smaller numbers), and from itself.
ROWS = {
    "types": 0,
    "errors": 0,
    "airgap": 1,
    "config": 1,
    "engine": 1,
    "prompts": 1,
    "answers": 2,
    "engines": 2,
    "fusion": 2,
    "openai_api": 2,
    "batch": 3,
    "cluster": 3,
    "evaluate": 3,
    "report": 3,
    "server": 5,
    "trace": 3,
    "zoo": 3,
    "calibrate": 4,
    "runtime": 4,
    "api": 4,
    "cli": 6,
    "__main__": 6,
}
# Neighbours in one row that may know each other, in this direction only.
NEIGHBOURS = {
    ("errors", "types"),
    ("fusion", "answers"),
    ("evaluate", "batch"),
    ("evaluate", "report"),
    ("report", "batch"),
    ("trace", "batch"),
    ("api", "runtime"),
    ("__main__", "cli"),
}
# What is heavy, opens the network, or runs foreign code: the files that may import it, relative to the package.
ONLY_IN = {
    "vllm": ("engines/vllm*.py",),
    "ray": ("cluster/*",),
    "torch": ("engines/vllm*.py", "zoo/*"),
    "transformers": ("engines/vllm*.py", "zoo/*"),
    "tokenizers": ("engines/vllm*.py", "zoo/*"),
    "safetensors": ("engines/vllm*.py", "zoo/*"),
    "fastapi": ("server/*",),
    "starlette": ("server/*",),
    "uvicorn": ("server/*",),
    "pydantic": ("config/*", "openai_api/*", "server/*", "runtime.py"),
    "yaml": ("config/*", "prompts/*"),
    "jinja2": ("prompts/*",),
    "bs4": ("server/documents/*",),
    "pypdf": ("server/documents/*",),
    "python_multipart": ("server/stored/*",),
    "rich": ("cli/*",),
    "typer": ("cli/*",),
    "socket": ("airgap/*", "cluster/*", "server/*"),
    "ssl": ("server/*",),
    "ruamel": ("calibrate/yaml_text.py", "calibrate/yaml_lists.py", "calibrate/yaml_spans.py"),
    "sklearn": ("calibrate/sorting.py",),
    "scipy": ("calibrate/sorting.py",),
    "http": ("server/*",),
    "opentelemetry": ("trace/*",),
    "urllib": (),
    "requests": ("trace/*",),
    "httpx": (),
    "aiohttp": (),
    "openai": (),
    "pickle": ("cluster/wire.py",),
    "cloudpickle": (),
    "marshal": (),
    "shelve": (),
}
# Fusion knows only the engine protocol: neither files nor processes. (A path may pass through it, unopened.)
NOT_IN_FUSION = {"os", "io", "shutil", "tempfile", "subprocess", "socket", "threading", "multiprocessing"}
FILE_METHODS = {"open", "read_text", "read_bytes", "write_text", "write_bytes", "mkdir", "unlink"}
FOREIGN_CODE = {"eval", "exec", "compile", "__import__"}


def modules() -> list[Path]:
    """Every Python file of the package, but the hook that stands outside it."""
    return sorted(path for path in PACKAGE.rglob("*.py") if path.parent.name != "hook")


def problems(path: Path, source: str) -> list[str]:
    """What `source` does that a file at `path` (relative to the package) may not."""
    tree = ast.parse(source)
    room = path.parts[0].removesuffix(".py")
    found = [*_imports(path, room, tree), *_calls(room, tree)]
    return [f"{path}:{line}: {text}" for line, text in found]


def _imports(path: Path, room: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    for line, name in imported(tree):
        parts = name.split(".")
        if parts[0] == "local_fusion":
            if len(parts) > 1 and not allowed(room, parts[1]):
                yield line, f"{room} may not import {parts[1]}"
            continue
        if parts[0] in ONLY_IN and not any(fnmatch(str(path), pattern) for pattern in ONLY_IN[parts[0]]):
            yield line, f"{parts[0]} may be imported only in {', '.join(ONLY_IN[parts[0]]) or 'no file'}"
        if room == "fusion" and parts[0] in NOT_IN_FUSION:
            yield line, f"fusion may not import {parts[0]}"


def allowed(room: str, other: str) -> bool:
    """Whether `room` may import `other`. A room that is not in the table may import nothing."""
    if other == room or other.startswith("__version__") or (room, other) in NEIGHBOURS:
        return True
    if room == "__init__":
        return other in ("api", "errors", "types")
    return room in ROWS and other in ROWS and ROWS[other] < ROWS[room]


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Full names of what is imported anywhere in the file, functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                yield node.lineno, "local_fusion.(relative)"
            elif node.module == "local_fusion":
                yield from ((node.lineno, f"local_fusion.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, node.module or ""


def _calls(room: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in FOREIGN_CODE or called in ("torch.load", "os.system"):
            yield node.lineno, f"{called} runs foreign code"
        if room == "fusion" and called.split(".")[-1] in FILE_METHODS:
            yield node.lineno, f"fusion may not open files: {called}"
