"""The wiring, readable top to bottom: one file per command; heavy imports only after arguments are parsed."""

from local_fusion.cli.main import main

__all__ = ["main"]
