"""Tokens as an attacker sends them, and as everybody else does."""

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from dispatchd.adapters import tokens
from dispatchd.adapters.tokens import LEEWAY, TokenVerifier, UnusableKey, has_expired, public_keys, shared_secret
from dispatchd.domain.access import AccessRole
from dispatchd.domain.errors import Unauthenticated

SECRET = "b0c1d2e3f4a5968778695a4b3c2d1e0f" * 2
RSA = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()


def pem(key: Any) -> str:
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return str(public, "ascii")


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    found = {"sub": "someone", "iss": "dispatchd", "aud": "dispatchd-clients", "exp": now + 60, "roles": ["viewer"]}
    return {name: value for name, value in (found | changes).items() if value is not None}


def token(key: Any = SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm=algorithm)


def verifier(*keys: tokens.VerifyingKey) -> TokenVerifier:
    return TokenVerifier(keys or (shared_secret(SECRET),), issuer="dispatchd", audience="dispatchd-clients")


def refused(sent: str | None, by: TokenVerifier | None = None) -> str:
    with pytest.raises(Unauthenticated) as refusal:
        (by or verifier()).identify(sent)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("key", "algorithm", "verifying"),
    [
        (SECRET, "HS256", [shared_secret(SECRET)]),
        (RSA, "RS256", public_keys(pem(RSA))),
        (RSA, "RS512", public_keys(pem(RSA))),
        (P256, "ES256", public_keys(pem(P256))),
        (P384, "ES384", public_keys(pem(P384))),
        (ED, "EdDSA", public_keys(pem(ED))),
        (ED, "EdDSA", public_keys(pem(RSA) + "\n" + pem(ED))),
    ],
)
def test_a_token_signed_for_this_installation_names_its_bearer(
    key: Any, algorithm: str, verifying: list[tokens.VerifyingKey]
) -> None:
    identity = verifier(*verifying).identify(f"Bearer {token(key, algorithm, worker_id='w1')}")
    assert (identity.subject, set(identity.roles), identity.worker_id) == ("someone", {AccessRole.VIEWER}, "w1")
    assert identity.accepted_until is not None
    assert timedelta(seconds=55) < identity.accepted_until - LEEWAY - datetime.now(UTC) <= timedelta(seconds=60)


@pytest.mark.parametrize(
    ("changes", "roles"),
    [
        ({"roles": ["viewer", "operator", "unheard-of", 7]}, {"viewer", "operator"}),
        ({"roles": "viewer operator"}, {"viewer", "operator"}),
        ({"roles": None, "scope": "openid submitter  worker"}, {"submitter", "worker"}),
        ({"roles": None, "realm_access": {"roles": ["admin"]}}, {"admin"}),
        (
            {"roles": ["viewer"], "scope": "service", "realm_access": {"roles": ["admin"]}},
            {"viewer", "service", "admin"},
        ),
        ({"roles": {"admin": True}, "scope": ["admin"], "realm_access": ["admin"]}, {"admin"}),
        ({"roles": None}, set()),
        ({"roles": "Admin ADMIN"}, set()),
    ],
)
def test_roles_come_from_three_claims(changes: dict[str, Any], roles: set[str]) -> None:
    assert verifier().identify(f"Bearer {token(**changes)}").roles == roles


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exp": int(time.time()) - 3600}, "expired"),
        ({"nbf": int(time.time()) + 3600}, "not valid yet"),
        ({"iat": int(time.time()) + 3600}, "not valid yet"),
        ({"aud": "others"}, "audience 'dispatchd-clients'"),
        ({"aud": ["others", "more"]}, "audience"),
        ({"iss": "somebody-else"}, "issuer 'dispatchd'"),
        ({"exp": None}, "lacks the claim 'exp'"),
        ({"iss": None}, "lacks the claim 'iss'"),
        ({"aud": None}, "lacks the claim 'aud'"),
        ({"sub": None}, "lacks the claim 'sub'"),
        ({"sub": ""}, "'sub'"),
        ({"sub": "a\0b"}, "'sub'"),
        ({"sub": "a" * 201}, "'sub'"),
        ({"worker_id": ["w1"]}, "'worker_id'"),
        ({"exp": 10**30}, "."),
        ({"exp": "tomorrow"}, "."),
    ],
)
def test_claims_that_do_not_fit_are_refused_by_name(changes: dict[str, Any], message: str) -> None:
    assert message in refused(f"Bearer {token(**changes)}") or message == "."


@pytest.mark.parametrize("sent", [None, "", "Bearer", "Bearer ", "Basic dXNlcg==", "token", "Bearer a b"])
def test_a_header_that_is_no_bearer_token_is_refused(sent: str | None) -> None:
    assert refused(sent)


def test_a_clock_that_is_a_little_off_is_forgiven() -> None:
    now = int(time.time())
    assert verifier().identify(f"bearer {token(exp=now - 5)}").subject == "someone"
    assert verifier().identify(f"BEARER {token(nbf=now + 5)}").subject == "someone"


def unsigned(header: dict[str, Any], **changes: Any) -> str:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part(header)}.{part(claims(**changes))}."


def hmac_with(key: bytes) -> str:
    """A token whose HMAC key is what everybody may know: PyJWT itself refuses to make it."""
    import hashlib
    import hmac

    body = unsigned({"alg": "HS256", "typ": "JWT"}).rstrip(".")
    signature = hmac.new(key, body.encode(), hashlib.sha256).digest()
    return f"{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def test_no_token_chooses_its_own_algorithm() -> None:
    by_rsa = verifier(*public_keys(pem(RSA)))
    for attack in (
        unsigned({"alg": "none"}),
        unsigned({"alg": "None", "typ": "JWT"}),
        unsigned({"typ": "JWT"}),
        hmac_with(pem(RSA).encode()),
        hmac_with(pem(RSA).strip().encode()),
        token(),
        token(P256, "ES256"),
        token(RSA, "PS256"),
    ):
        assert refused(f"Bearer {attack}", by_rsa)
        assert refused(f"Bearer {attack}", verifier(shared_secret("another-key-0123456789abcdefghij")))
    assert refused(f"Bearer {token(RSA, 'RS256')}")
    assert "HS256" in refused(f"Bearer {token(SECRET, 'HS512')}")


def test_a_key_in_the_header_is_not_believed() -> None:
    own = rsa.generate_private_key(65537, 2048)
    jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(own.public_key()))
    for headers in ({"jwk": jwk}, {"jku": "https://attacker.example/keys"}, {"kid": "../../dev/null"}):
        sent = jwt.encode(claims(roles=["admin"]), own, algorithm="RS256", headers=headers)
        assert "signature" in refused(f"Bearer {sent}", verifier(*public_keys(pem(RSA))))


def test_a_token_changed_in_any_place_is_refused() -> None:
    sent = token()
    by = verifier()
    for place in range(0, len(sent), 3):
        changed = sent[:place] + ("A" if sent[place] != "A" else "B") + sent[place + 1 :]
        if changed.rstrip("=") != sent:
            assert refused(f"Bearer {changed}", by)


def test_an_oversize_token_is_refused_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jwt, "decode", lambda *_, **__: pytest.fail("it was read"))
    assert "longer than 8192 bytes" in refused(f"Bearer {'a' * 8193}")


@given(st.text(max_size=300))
def test_whatever_else_is_sent_is_refused_in_order(sent: str) -> None:
    assert refused(f"Bearer {sent}")


def test_a_remembered_token_still_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    by, sent = verifier(), f"Bearer {token()}"
    identity = by.identify(sent)
    assert by.identify(sent) is identity
    assert not has_expired(identity)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 60 + LEEWAY.total_seconds() + 1)
    assert "expired" in refused(sent, by)


def test_no_more_than_a_thousand_tokens_are_remembered() -> None:
    by = verifier()
    for number in range(1_100):
        by.identify(f"Bearer {token(sub=f's{number}')}")
    assert len(by._remembered) == 1_000


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no block"),
        ("not a key", "no block"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "no public key"),
        (pem(rsa.generate_private_key(65537, 1024)), "2048 bits"),
        (pem(ec.generate_private_key(ec.SECP256K1())), "secp256k1"),
    ],
)
def test_a_key_that_protects_nothing_is_refused(text: str, why: str) -> None:
    with pytest.raises(UnusableKey, match=why):
        public_keys(text)


def test_a_key_in_pem_is_no_shared_secret_and_no_key_is_shown() -> None:
    with pytest.raises(UnusableKey, match="PEM"):
        shared_secret(pem(RSA))
    assert SECRET not in repr(shared_secret(SECRET))


def test_a_short_secret_is_refused_and_not_shown() -> None:
    with pytest.raises(UnusableKey) as refusal:
        shared_secret("tiger-tiger")
    assert "tiger" not in str(refusal.value)
