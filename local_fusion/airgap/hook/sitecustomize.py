"""Python imports this at its start where its folder is on PYTHONPATH: begins the audit, then runs the sitecustomize
that this one stands in front of. Not part of the package: no `__init__.py` beside it."""

import importlib.machinery
import importlib.util
import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))
_audit = os.path.join(os.path.dirname(_here), "audit.py")


def _run(name: str, path: str) -> None:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        if name == "local_fusion_audit":
            module.install_from_environment()


_run("local_fusion_audit", _audit)
_next = importlib.machinery.PathFinder.find_spec(
    "sitecustomize", [path for path in sys.path if os.path.abspath(path or ".") != _here]
)
if _next is not None and _next.origin is not None:
    _run("sitecustomize", _next.origin)
