"""local-fusion: one better answer out of several open models on your own GPUs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from local_fusion.api import LocalFusion
    from local_fusion.errors import FusionError, LocalFusionError
    from local_fusion.types import Fused, Message, Request, Sampling

__version__ = "0.1.0"
__all__ = ["Fused", "FusionError", "LocalFusion", "LocalFusionError", "Message", "Request", "Sampling"]

_HOMES = {"LocalFusion": "api", "FusionError": "errors", "LocalFusionError": "errors"}


def __getattr__(name: str) -> Any:
    """Import public names when they are first used: importing the package alone does nothing."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'types')}"), name)
