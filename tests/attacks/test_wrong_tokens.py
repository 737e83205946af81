"""Whoever shows a token that is wrong in one thing gets in nowhere: no call, no stream, no reflection."""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
import jwt
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attacks.attacked import AttackedRole, Site
from attacks.methods import CONNECT, GET_JOB, REFLECTION, SUBMIT_JOB
from dispatchd.domain.access import METHODS, AccessRole
from dispatchd.entrypoints.settings import Role
from dispatchd.sdk.worker.true_status import keep_true_status
from tokens_for_tests import SECRET

pytestmark = pytest.mark.asyncio(loop_scope="module")

RSA = rsa.generate_private_key(65537, 2048)
PEM = RSA.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
OTHER_RSA = rsa.generate_private_key(65537, 2048)
NO_CODE = (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
"""What a call may get that was let in and makes no sense."""


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    found = {"sub": "mallory", "iss": "dispatchd", "aud": "dispatchd-clients", "exp": now + 3_600, "roles": ["admin"]}
    return {name: value for name, value in (found | changes).items() if value is not None}


def signed(key: Any = SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm=algorithm)


def part(value: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def unsigned(algorithm: str) -> str:
    return f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims())}."


def signed_by_hand(key: str, algorithm: str = "HS256") -> str:
    """PyJWT itself refuses to sign with a public key, or with a key that is short for its algorithm."""
    body = unsigned(algorithm).rstrip(".")
    signature = hmac.new(key.encode(), body.encode(), f"sha{algorithm[2:]}").digest()
    return f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def tampered() -> str:
    """The claims of an admin under the signature of a viewer."""
    header, _, signature = signed(roles=["viewer"]).split(".")
    return ".".join([header, part(claims()), signature])


def wrong_tokens() -> dict[str, str | None]:
    """Made when they are sent, because tokens have times in them."""
    now = int(time.time())
    return {
        "none": None,
        "expired": signed(exp=now - 3_600),
        "future": signed(nbf=now + 3_600),
        "issued in the future": signed(iat=now + 3_600),
        "another audience": signed(aud="others"),
        "another issuer": signed(iss="somebody-else"),
        "another secret": signed("another-secret-0123456789abcdefghij"),
        "another algorithm": signed_by_hand(SECRET, "HS512"),
        "another kind of key": signed(RSA, "RS256"),
        "no signature": unsigned("none"),
        "an empty signature": unsigned("HS256"),
        "tampered": tampered(),
        "no expiry": signed(exp=None),
        "no subject": signed(sub=None),
        "oversize": signed(padding="a" * 8_192),
        "rubbish": "a.b.c",
    }


def wrong_for_a_public_key() -> dict[str, str | None]:
    return {
        "none": None,
        "the key as a secret": signed_by_hand(PEM),
        "the stripped key as a secret": signed_by_hand(PEM.strip()),
        "no signature": unsigned("none"),
        "another key": signed(OTHER_RSA, "RS256"),
        "another family": signed(RSA, "PS256"),
        "a shared secret": signed(),
        "expired": signed(RSA, "RS256", exp=int(time.time()) - 3_600),
    }


async def code_of(role: AttackedRole, method: str, token: str | None) -> grpc.StatusCode:
    """How a call ends that sends an empty message, or none where there may be many."""
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    async with grpc.aio.insecure_channel(role.grpc_address) as channel:
        if method not in (CONNECT, REFLECTION):
            ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
            return await ask(b"", metadata=metadata, timeout=15.0).code()
        begin: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
        stream = begin(metadata=metadata, timeout=15.0)
        keep_true_status(stream)
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await stream.done_writing()
        with suppress(grpc.aio.AioRpcError):
            await stream.read()
        return await stream.code()


@pytest.mark.parametrize("wrong", wrong_tokens())
async def test_a_wrong_token_opens_nothing(site: Site, wrong: str) -> None:
    token = wrong_tokens()[wrong]
    for method in (GET_JOB, SUBMIT_JOB, REFLECTION):
        assert await code_of(site.control_plane, method, token) is grpc.StatusCode.UNAUTHENTICATED, method
    for method in (CONNECT, REFLECTION):
        assert await code_of(site.gateway, method, token) is grpc.StatusCode.UNAUTHENTICATED, method


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def by_public_key(installation: Site) -> AsyncIterator[AttackedRole]:
    """A control-plane that takes the tokens of an identity provider."""
    environ = {name: value for name, value in installation.environ.items() if name != "AUTH_JWT_SHARED_SECRET"}
    role = AttackedRole(Role.CONTROL_PLANE, "by-public-key", environ | {"AUTH_JWT_PUBLIC_KEY_PEM": PEM})
    await role.start()
    try:
        await role.wait_ready()
        yield role
    finally:
        await role.stop(10.0)


async def test_a_public_key_is_no_secret(by_public_key: AttackedRole) -> None:
    for wrong, token in wrong_for_a_public_key().items():
        for method in (GET_JOB, SUBMIT_JOB, REFLECTION):
            code = await code_of(by_public_key, method, token)
            assert code is grpc.StatusCode.UNAUTHENTICATED, f"{wrong}: {method} {code}"
    assert await code_of(by_public_key, GET_JOB, signed(RSA, "RS256")) in NO_CODE


@pytest.mark.parametrize("role", [None, *AccessRole])
async def test_each_role_gets_in_where_the_table_says(site: Site, role: AccessRole | None) -> None:
    token = signed(roles=[] if role is None else [role.value])
    for label, roles in METHODS.items():
        service, method = label.split(".")
        package = "grpc.reflection.v1alpha" if service == "ServerReflection" else "dispatchd.v1"
        called = site.gateway if service == "WorkerService" else site.control_plane
        code = await code_of(called, f"/{package}.{service}/{method}", token)
        expected = (
            (*NO_CODE, grpc.StatusCode.FAILED_PRECONDITION) if role in roles else (grpc.StatusCode.PERMISSION_DENIED,)
        )
        assert code in expected, f"{role} calls {label}: {code}"
