"""Pages of lists, the same for every kind of thing a client owns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from local_fusion.errors import RequestError
from local_fusion.openai_api.file_objects import Listing


class Named(Protocol):
    """Something with an id."""

    @property
    def id(self) -> str: ...


T = TypeVar("T", bound=Named)


def cut_page(entries: Sequence[T], listing: Listing, place: Callable[[T], tuple[int, str]]) -> tuple[list[T], bool]:
    """The page of `entries` in the order of `place`, and whether more follow. Raises RequestError where `after` names
    none of them."""
    ordered = sorted(entries, key=place, reverse=listing.order == "desc")
    if listing.after is not None:
        ids = [entry.id for entry in ordered]
        if listing.after not in ids:
            raise RequestError("after names nothing in this list; begin again without it", "invalid_field", "after")
        ordered = ordered[ids.index(listing.after) + 1 :]
    return ordered[: listing.limit], len(ordered) > listing.limit
