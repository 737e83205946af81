"""Redis over TLS, as REDIS_ADDRESS says it: who is trusted, and that nothing is said in plain text."""

import asyncio
import logging
from datetime import timedelta
from pathlib import Path

import pytest

from dispatchd.adapters.redis.connection import hints, open_redis
from dispatchd.adapters.redis.signals import listen
from dispatchd.application.ports import HintsUnavailable
from dispatchd.entrypoints.dev_certificates import DevAuthority
from tcp_proxy import proxy_to
from tls_servers import server_side, stripper
from waiting import until

PASSWORD = "s3cret"


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is, a handshake comes to its end."""
    for module in ("connection", "signals"):
        monkeypatch.setattr(f"dispatchd.adapters.redis.{module}.TIMEOUT", timedelta(seconds=30))


async def answer_of(host: str, port: int, trusted: DevAuthority) -> object:
    """Of a PING, with a client as the roles have it."""
    redis = open_redis(host, port, tls=True, tls_ca_file=trusted.certificate_file, password=None)
    try:
        async with hints():
            return await redis.ping()
    finally:
        await redis.aclose()


async def test_only_the_certificate_of_a_trusted_authority_for_this_host_is_taken(
    redis_address: str, tmp_path: Path
) -> None:
    ours, theirs = DevAuthority(tmp_path / "ours"), DevAuthority(tmp_path / "theirs")
    async with proxy_to(redis_address, server_side(ours)) as proxy:
        assert await answer_of("127.0.0.1", proxy.port, ours) is True
        assert proxy.connections == 1
        with pytest.raises(HintsUnavailable):
            await answer_of("localhost", proxy.port, ours)
        with pytest.raises(HintsUnavailable):
            await answer_of("127.0.0.1", proxy.port, theirs)
        assert proxy.connections == 1


async def test_where_nobody_speaks_tls_nothing_is_said_in_plain_text(tmp_path: Path) -> None:
    trusted = DevAuthority(tmp_path / "ours")
    async with stripper(b"+OK\r\n") as between:
        redis = open_redis("127.0.0.1", between.port, tls=True, tls_ca_file=trusted.certificate_file, password=PASSWORD)
        with pytest.raises(HintsUnavailable):
            async with hints():
                await redis.ping()
        await redis.aclose()
    assert between.heard
    for heard in between.heard:
        # A TLS handshake, and nothing that Redis would understand.
        assert heard.startswith(b"\x16\x03")
        assert b"AUTH" not in heard
        assert PASSWORD.encode() not in heard


async def test_the_log_says_once_why_redis_is_not_trusted(
    redis_address: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = DevAuthority(tmp_path / "ours"), DevAuthority(tmp_path / "theirs")
    caplog.set_level(logging.INFO, "dispatchd.adapters.redis.signals")
    async with proxy_to(redis_address, server_side(ours)) as proxy, proxy_to(f"127.0.0.1:{proxy.port}") as counter:
        redis = open_redis("127.0.0.1", counter.port, tls=True, tls_ca_file=theirs.certificate_file)
        loop = asyncio.create_task(listen(redis, {"channel": lambda message: None}, lambda: None))
        try:
            await until(lambda: counter.connections >= 3)
        finally:
            loop.cancel()
            await asyncio.wait({loop})
            await redis.aclose()
    [told] = [record for record in caplog.records if record.name == "dispatchd.adapters.redis.signals"]
    assert told.levelno == logging.WARNING
    assert "certificate verify failed" in vars(told)["error"]
