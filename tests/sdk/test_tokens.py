"""Where tokens come from, when they are renewed, and that nothing ever shows one."""

import asyncio
import base64
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dispatchd import AsyncClient, Client, InvalidRequest, Unauthenticated, Worker
from dispatchd.sdk.token import ASK_AGAIN_S, RENEWED_EARLY_S, AskedToken, token_source
from loop_watching import LoopWatch


def jwt(expires_at: object, name: str = "") -> str:
    """A token as far as its bearer can read it."""
    payload = base64.urlsafe_b64encode(json.dumps({"exp": expires_at, "sub": name}).encode()).rstrip(b"=").decode()
    return f"e30.{payload}.sig-{name}"


class Issuer:
    """A clock, and a function that returns the tokens it is given, the last one again and again."""

    def __init__(self, *tokens: object) -> None:
        self.now = 1_000_000.0
        self.asked = 0
        self._tokens = list(tokens)
        self.source = AskedToken(self.ask, now=lambda: self.now)

    async def ask(self) -> Any:
        self.asked += 1
        token = self._tokens.pop(0) if len(self._tokens) > 1 else self._tokens[0]
        await asyncio.sleep(0)
        if isinstance(token, Exception):
            raise token
        return token


async def test_a_function_is_asked_once_until_shortly_before_the_token_expires() -> None:
    first, second = jwt(1_003_600, "a"), jwt(1_007_200, "b")
    issuer = Issuer(first, second)
    assert set(await asyncio.gather(*(issuer.source.current() for _ in range(20)))) == {first}
    issuer.now = 1_003_600 - RENEWED_EARLY_S - 1
    assert (await issuer.source.current(), issuer.asked) == (first, 1)
    issuer.now += 1
    assert set(await asyncio.gather(*(issuer.source.current() for _ in range(20)))) == {second}
    assert issuer.asked == 2


async def test_a_token_of_a_few_seconds_is_kept_for_most_of_them() -> None:
    issuer = Issuer(jwt(1_000_005, "a"), jwt(1_000_010, "b"))
    token = await issuer.source.current()
    issuer.now = 1_000_003.9
    assert await issuer.source.current() == token
    issuer.now = 1_000_004
    assert await issuer.source.current() != token


@pytest.mark.parametrize(
    "token",
    ["opaque", "a.b.c", "e30.bnVsbA.x", "e30.e30.x", jwt("soon"), jwt(None), jwt([1]), jwt("inf"), jwt(999_999)],
    ids=["opaque", "no base64", "null", "no exp", "text", "none", "list", "infinite", "over by our clock"],
)
async def test_a_token_without_a_usable_end_is_kept_until_it_is_refused(token: str) -> None:
    issuer = Issuer(token, "another")
    assert await issuer.source.current() == token
    issuer.now += 10**9
    assert (await issuer.source.current(), issuer.asked) == (token, 1)
    assert await issuer.source.other_than(token) == await issuer.source.current() == "another"


async def test_a_refused_token_is_renewed_once_for_all_who_were_refused() -> None:
    issuer = Issuer("old", "new")
    old = await issuer.source.current()
    assert await asyncio.gather(*(issuer.source.other_than(old) for _ in range(20))) == ["new"] * 20
    assert issuer.asked == 2
    assert await issuer.source.other_than("new") is None, "the function has no other one"


async def test_while_a_token_lasts_a_failure_to_renew_it_is_only_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    token = jwt(1_003_600)
    issuer = Issuer(token, ConnectionError(f"no route, {token}"))
    await issuer.source.current()
    issuer.now = 1_003_590
    assert [await issuer.source.current() for _ in range(5)] == [token] * 5
    assert issuer.asked == 2
    issuer.now += ASK_AGAIN_S
    assert (await issuer.source.current(), issuer.asked) == (token, 3)
    assert "raised ConnectionError" in caplog.text
    assert token not in caplog.text
    issuer.now = 1_003_600
    with pytest.raises(Unauthenticated, match="the function that returns it raised ConnectionError") as raised:
        await issuer.source.current()
    assert isinstance(raised.value.__cause__, ConnectionError)


@pytest.mark.parametrize("token", [None, b"bytes", "", "Bearer x", "two words", "line\n", "größe", "half \udce4"])
async def test_what_a_function_returns_and_no_header_can_carry_is_refused_here(token: Any) -> None:
    with pytest.raises(Unauthenticated) as raised:
        await Issuer(token).source.current()
    assert not token or str(token) not in str(raised.value)


class AsyncIssuer:
    async def __call__(self) -> str:
        return f"token {threading.current_thread().name}".replace(" ", "-")


def returns_a_coroutine() -> Any:
    return AsyncIssuer()()


@pytest.mark.parametrize(
    "function", [AsyncIssuer(), AsyncIssuer().__call__, returns_a_coroutine, lambda: AsyncIssuer()()]
)
async def test_async_functions_run_in_the_loop(function: Callable[[], Any]) -> None:
    assert await token_source(function).current() == f"token-{threading.current_thread().name}"


async def test_a_plain_function_does_not_hold_up_the_loop(loop_watch: LoopWatch) -> None:
    def slow() -> str:
        threading.Event().wait(0.5)
        return threading.current_thread().name

    assert await token_source(slow).current() != threading.current_thread().name


async def test_a_file_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    source = token_source(file)
    assert await source.current() == "first"
    file.write_text("second, longer".replace(", ", "-"))
    assert await source.current() == "second-longer"
    replacement = tmp_path / "next"
    replacement.write_text("third")
    replacement.replace(file)
    assert await source.current() == "third"
    assert await source.other_than("third") is None


async def test_a_refusal_finds_a_change_that_the_date_of_the_file_does_not_show(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    source = token_source(file)
    await source.current()
    found = file.stat()
    file.write_text("other")
    os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert await source.current() == "first"
    assert await source.other_than("first") == await source.current() == "other"


@pytest.mark.parametrize("middle", ["", "half a tok", None], ids=["empty", "no token", "gone"])
async def test_in_the_middle_of_a_rewrite_the_last_token_goes_on(tmp_path: Path, middle: str | None) -> None:
    file = tmp_path / "token"
    file.write_text("first")
    source = token_source(file)
    await source.current()
    if middle is None:
        file.unlink()
    else:
        file.write_text(middle)
    assert await source.current() == "first"
    assert await source.other_than("first") is None
    file.write_text("second")
    assert await source.current() == "second"


@pytest.mark.parametrize("content", [None, b"", b"two words", b"\xff"], ids=["missing", "empty", "words", "no text"])
async def test_a_file_without_a_token_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "the-token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Unauthenticated, match=str(file)) as raised:
        await token_source(file).current()
    assert "two words" not in str(raised.value)


@pytest.mark.parametrize("make", [AsyncClient, Client, Worker])
@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("", "is empty"),
        ("Bearer secret", "leave that out"),
        ("a\nsecret", "line ends"),
        ("secret\udce4", "line ends"),
        (7, "not int"),
    ],
)
def test_a_token_that_can_be_none_is_a_mistake_at_once(make: Callable[..., object], token: Any, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as raised:
        make(token=token)
    assert raised.value.field == "token"
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("make", [AsyncClient, Client, Worker])
def test_a_token_and_a_header_for_all_calls_are_one_too_many(make: Callable[..., object]) -> None:
    with pytest.raises(InvalidRequest, match="not both"):
        make(token="secret", call_metadata={"Authorization": "Basic x"})
    assert "secret" not in repr(make(token="secret"))
