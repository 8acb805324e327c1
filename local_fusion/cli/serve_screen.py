"""What `serve` says to a person: where it listens, what it serves, how far the engines are. All on stderr."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from local_fusion.server.service import Service


class ServeScreen:
    """Lines in the order in which things happen."""

    def __init__(self, service: Service, url: str, open_to_others: bool) -> None:
        """`open_to_others`: other machines reach the server, and what they send is not encrypted."""
        self._console = Console(stderr=True, highlight=False)
        self._service = service
        self._url = url
        self._open = open_to_others

    def begin(self) -> None:
        """Where it listens and what it will serve."""
        self._console.print(f"[bold]local-fusion[/] on [bold]{escape(self._url)}[/] (the page to try it is there, too)")
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 2))
        for name, recipe in self._service.catalog.recipes.items():
            default = " [dim](default)[/]" if name == self._service.catalog.default else ""
            panel = ", ".join(dict.fromkeys(seat.model for seat in recipe.seats))
            table.add_row(f"[bold]{escape(name)}[/]{default}", recipe.settings.mode, escape(panel))
        self._console.print(table)
        self._console.print(f"  base URL for clients: {escape(self._url)}/v1", soft_wrap=True)
        keys = self._service.keys
        if keys is None:
            self._console.print("  no keys: every program of this machine may ask")
        else:
            self._console.print(f"  {len(keys)} key{'' if len(keys) == 1 else 's'} in {escape(str(keys.path))}")
        if self._open:
            self._console.print("[yellow]  without TLS, keys and prompts cross the network in the clear[/]")
        self._console.print("engines are starting …")

    def say(self, step: str) -> None:
        """One step of the start, or a change of a host later."""
        self._console.print(f"  {escape(step)}", soft_wrap=True)

    def ready(self, step: str) -> None:
        """Requests are answered from now on."""
        self._console.print(f"[green]{escape(step)}[/]; Ctrl-C ends it")
