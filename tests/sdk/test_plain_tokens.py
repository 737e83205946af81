"""A token that would cross a network as plain text is warned of, once for a client or worker."""

import logging

import grpc
import pytest

from dispatchd import AsyncClient, Client, Tls, Worker
from dispatchd.entrypoints.dev_certificates import DevAuthority
from dispatchd.sdk.plain_token import leaves_this_machine
from sdk.gates import Gate

AWAY = "192.0.2.1:8080"
"""Nobody's address (RFC 5737); nothing is sent to it here."""


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    "target",
    [
        "localhost:8080",
        "LOCALHOST:8080",
        "localhost",
        "127.0.0.1:8080",
        "127.3.2.1",
        "[::1]:8080",
        "::1",
        "dns:localhost:8080",
        "dns:///localhost:8080",
        "dns://10.0.0.1/127.0.0.1:8080",
        "ipv4:127.0.0.1:8080,127.0.0.2:8080",
        "ipv6:[::1]:8080",
        "unix:/run/dispatchd.sock",
        "unix-abstract:dispatchd",
    ],
)
def test_what_stays_on_this_machine(target: str) -> None:
    assert not leaves_this_machine(target)


@pytest.mark.parametrize(
    "target",
    [
        AWAY,
        "gateways.internal:8081",
        "localhost.example.com:8080",
        "127.0.0.1.example.com:8080",
        "[2001:db8::1]:8080",
        "2001:db8::1",
        "dns:///gateways.internal:8081",
        "dns://127.0.0.1/gateways.internal:8081",
        "ipv4:127.0.0.1:8080,10.0.0.2:8080",
        "ipv6:[2001:db8::1]:8080",
        "xds:///localhost",
        "0.0.0.0:8080",
        "",
    ],
)
def test_what_leaves_this_machine(target: str) -> None:
    assert leaves_this_machine(target)


async def test_a_client_warns_of_a_token_without_encryption_but_does_not_show_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with AsyncClient(AWAY, token="very-secret"):
        pass
    [text] = warnings(caplog)
    assert f"the token goes to {AWAY} as plain text" in text
    assert "very-secret" not in text
    with Client(AWAY, call_metadata={"Authorization": "Bearer very-secret"}):
        pass
    assert len(warnings(caplog)) == 2


async def test_a_worker_warns_of_a_token_without_encryption(caplog: pytest.LogCaptureFixture) -> None:
    worker = Worker(AWAY, token="very-secret")
    Gate(worker)
    worker.drain()
    await worker.serve()
    assert sum(f"the token goes to {AWAY} as plain text" in text for text in warnings(caplog)) == 1


async def test_nothing_is_said_where_nobody_can_listen(
    caplog: pytest.LogCaptureFixture, tmp_path_factory: pytest.TempPathFactory
) -> None:
    authority = DevAuthority(tmp_path_factory.mktemp("certs"))
    async with (
        AsyncClient(AWAY, token="t", tls=Tls(ca_file=authority.certificate_file)),
        AsyncClient(AWAY, token="t", credentials=grpc.ssl_channel_credentials()),
        AsyncClient(AWAY),
        AsyncClient("localhost:8080", token="t"),
    ):
        pass
    assert warnings(caplog) == []
