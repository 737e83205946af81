"""Where a bearer token comes from, and for how long it is kept.

    given as    read                       again
    ─────────   ────────────────────────   ─────────────────────────────────────────────────────
    a string    at once                    never
    a path      when it is first needed    when the file has changed
    a function  when it is first needed    shortly before it expires, and when a server refuses it

Errors, log lines and reprs never hold a token.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import logging
import math
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from dispatchd.sdk.errors import InvalidRequest, Unauthenticated

Token: TypeAlias = str | os.PathLike[str] | Callable[[], str | Awaitable[str]]

AUTHORIZATION = "authorization"
# A token is renewed this long before it expires, or in the last fifth of its life if that is shorter.
RENEWED_EARLY_S = 30.0
RENEWED_EARLY_SHARE = 0.2
# How long a token that is still good is used before the function that did not renew it is asked again.
ASK_AGAIN_S = 5.0

_TOKEN = re.compile(rb"[\x21-\x7e]+")
logger = logging.getLogger("dispatchd.token")


class TokenSource(Protocol):
    """Gives tokens. Raises `Unauthenticated` when it has none. Used in one event loop."""

    async def current(self) -> str:
        """Return the token for the next call."""

    async def other_than(self, refused: str) -> str | None:
        """Return a token to try in place of one that a server has refused, or None if there is no other."""


def token_source(token: Token, home: asyncio.AbstractEventLoop | None = None) -> TokenSource:
    """Return the source for what a program gave as `token`; `InvalidRequest` if it can't be one.

    An async function runs in `home`, or else where the token is needed; a plain one in a thread.
    """
    if isinstance(token, str):
        problem = _problem_of(_bytes_of(token))
        if problem is not None:
            raise InvalidRequest(f"token {problem}", field="token")
        return FixedToken(token)
    if isinstance(token, os.PathLike):
        return FileToken(Path(token))
    if callable(token):
        return AskedToken(lambda: _answer_of(token, home))
    raise InvalidRequest(
        f"token must be a string, a path or a function that returns a token, not {type(token).__name__}", field="token"
    )


def checked_token(token: Token | None, headers: Iterable[tuple[str, str]]) -> Token | None:
    """Return the token; `InvalidRequest` if it can't be one, or if the headers of every call have one already."""
    if token is None:
        return None
    if any(name == AUTHORIZATION for name, _ in headers):
        raise InvalidRequest("give either token or an authorization header in call_metadata, not both", field="token")
    token_source(token)
    return token


class FixedToken:
    """A token that stays as it is."""

    def __init__(self, token: str):
        self._token = token

    async def current(self) -> str:
        """Return the token."""
        return self._token

    async def other_than(self, refused: str) -> str | None:
        """There is no other."""
        return None


class FileToken:
    """A token in a file that somebody else renews, as Kubernetes does.

    What is read in the middle of a rewrite may be nothing, or no token: then the last one goes on.
    """

    def __init__(self, path: Path):
        self._path = path
        self._token = ""
        self._stamp: tuple[int, ...] | None = None

    async def current(self) -> str:
        """Return what is in the file; a look at its date tells whether it has to be read."""
        self._look()
        return self._token

    async def other_than(self, refused: str) -> str | None:
        """Read the file whatever its date says, which may be too coarse to show a change."""
        self._stamp = None
        self._look()
        return None if self._token == refused else self._token

    def _look(self) -> None:
        try:
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
            if stamp == self._stamp:
                return
            data = self._path.read_bytes().strip()
        except OSError as exc:
            if not self._token:
                raise Unauthenticated(f"the token file {self._path} can't be read: {exc.strerror}") from exc
            return
        problem = _problem_of(data)
        if problem is None:
            self._token, self._stamp = data.decode(), stamp
        elif not self._token:
            raise Unauthenticated(f"the token in the file {self._path} {problem}")


class AskedToken:
    """A token that a function of the program returns. However many need one, the function is asked once."""

    def __init__(self, ask: Callable[[], Awaitable[Any]], now: Callable[[], float] = time.time):
        self._ask = ask
        self._now = now
        self._asking = asyncio.Lock()
        self._token = ""
        self._renew_at = -math.inf
        self._expires_at = -math.inf

    async def current(self) -> str:
        """Return the token, asked for anew shortly before it expires. If that fails it is used to its end."""
        if self._now() < self._renew_at:
            return self._token
        async with self._asking:
            if self._now() < self._renew_at:  # another caller has renewed it meanwhile
                return self._token
            try:
                await self._renew()
            except Unauthenticated as error:
                if self._now() >= self._expires_at:
                    raise
                logger.warning("the token could not be renewed, and the old one is used as long as it lasts: %s", error)
                self._renew_at = min(self._now() + ASK_AGAIN_S, self._expires_at)
            return self._token

    async def other_than(self, refused: str) -> str | None:
        """Ask for a new one, unless that was done since the refused one was taken."""
        async with self._asking:
            if self._token == refused:
                await self._renew()
            return None if self._token == refused else self._token

    async def _renew(self) -> None:
        try:
            token = await self._ask()
        except Exception as exc:
            raise Unauthenticated(f"there is no token: the function that returns it raised {_name(exc)}") from exc
        if not isinstance(token, str):
            raise Unauthenticated(f"there is no token: the function that returns it returned {_name(token)}, no string")
        problem = _problem_of(_bytes_of(token))
        if problem is not None:
            raise Unauthenticated(f"the token that the function returned {problem}")
        now, expires_at = self._now(), _expiry_of(token)
        if expires_at is None or expires_at <= now:
            # By our clock it may be over already: what counts is the server's.
            expires_at = math.inf
        self._token, self._expires_at = token, expires_at
        self._renew_at = expires_at - min(RENEWED_EARLY_S, (expires_at - now) * RENEWED_EARLY_SHARE)


async def _answer_of(function: Callable[[], Any], home: asyncio.AbstractEventLoop | None) -> Any:
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
    answer = function() if is_async else await asyncio.to_thread(function)
    if not inspect.isawaitable(answer):
        return answer
    if home is None:
        return await answer
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(_result_of(answer), home))


async def _result_of(answer: Awaitable[Any]) -> Any:
    return await answer


def _bytes_of(token: str) -> bytes:
    # Whatever is in it: an error about its encoding would show it.
    return token.encode("utf-8", "surrogatepass")


def _problem_of(token: bytes) -> str | None:
    """Say what keeps a token from being sent. gRPC itself would show it in its error."""
    if not token:
        return "is empty"
    if token[:7].lower() == b"bearer ":
        return "begins with 'Bearer': leave that out"
    if _TOKEN.fullmatch(token) is None:
        return "has spaces, line ends or other characters that no token has"
    return None


def _expiry_of(token: str) -> float | None:
    """Return the claim `exp` of a JSON Web Token, unverified; None if there is none."""
    try:
        _, payload, _ = token.split(".")
        expiry = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"]
        seconds = float(expiry)
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) else None


def _name(value: object) -> str:
    return type(value).__name__
