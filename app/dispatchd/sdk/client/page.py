"""Lists that the server answers in pages."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Page(Generic[ItemT]):
    """One page, and the token of the next; the last page's token is empty."""

    items: list[ItemT]
    next_token: str


FetchPage: TypeAlias = Callable[[str], Coroutine[Any, Any, Page[ItemT]]]


async def every_item(fetch: FetchPage[ItemT]) -> AsyncIterator[ItemT]:
    """Yield the items of all pages, fetching each page when it is needed."""
    token = ""
    while True:
        page = await fetch(token)
        for item in page.items:
            yield item
        token = page.next_token
        if not token:
            return
