"""Bearer tokens: JSON Web Tokens (RFC 7519) as identities.

Which algorithms a token may be signed with follows from the type of our key, never from what the token says of itself
(RFC 8725, section 3.1): a shared secret takes HS256, an RSA key RS256 to RS512, an elliptic curve the one algorithm of
its curve, Ed25519 and Ed448 EdDSA.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from dispatchd.domain.access import AccessRole, Identity
from dispatchd.domain.errors import Unauthenticated

LEEWAY = timedelta(seconds=10)
"""How far the clock of who made a token may be from ours."""
LONGEST_TOKEN_BYTES = 8 * 1024
LONGEST_SUBJECT = 200
SHORTEST_SECRET_BYTES = 32
SMALLEST_RSA_BITS = 2048
_REMEMBERED = 1_000
_ROLES = {role.value: role for role in AccessRole}
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_PEM_END = "-----END PUBLIC KEY-----"

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey


class UnusableKey(Exception):
    """The key can't be used to verify tokens; the text says why and never shows it."""


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A key with the algorithms that it is for."""

    key: str | PublicKey = field(repr=False)
    algorithms: tuple[str, ...]


def shared_secret(secret: str) -> VerifyingKey:
    """The key of an installation that makes its own tokens. Raises UnusableKey if it is shorter than 32 bytes."""
    if len(secret.encode()) < SHORTEST_SECRET_BYTES:
        raise UnusableKey(f"it is shorter than {SHORTEST_SECRET_BYTES} bytes")
    if "-----BEGIN" in secret:
        raise UnusableKey("it is a key in PEM, which is no secret that two sides share")
    return VerifyingKey(secret, ("HS256",))


def public_keys(pem: str) -> list[VerifyingKey]:
    """The keys of an identity provider: one or several blocks, so that it can change its key. Raises UnusableKey."""
    blocks = [block + _PEM_END for block in pem.split(_PEM_END)[:-1]]
    if not blocks:
        raise UnusableKey("it has no block -----BEGIN PUBLIC KEY-----")
    return [_public_key(block) for block in blocks]


def _public_key(pem: str) -> VerifyingKey:
    try:
        key = load_pem_public_key(pem.strip().encode())
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise UnusableKey("it is no public key in PEM") from exc
    match key:
        case rsa.RSAPublicKey():
            if key.key_size < SMALLEST_RSA_BITS:
                raise UnusableKey(f"an RSA key needs {SMALLEST_RSA_BITS} bits, this one has {key.key_size}")
            return VerifyingKey(key, ("RS256", "RS384", "RS512"))
        case ec.EllipticCurvePublicKey():
            if key.curve.name not in _CURVES:
                raise UnusableKey(f"the curve {key.curve.name} is none of {', '.join(_CURVES)}")
            return VerifyingKey(key, (_CURVES[key.curve.name],))
        case ed25519.Ed25519PublicKey() | ed448.Ed448PublicKey():
            return VerifyingKey(key, ("EdDSA",))
        case _:
            raise UnusableKey(f"{type(key).__name__} is none of RSA, elliptic curve, Ed25519 and Ed448")


class TokenVerifier:
    """Turns bearer tokens into identities. What was verified once is remembered until it expires."""

    def __init__(self, keys: Sequence[VerifyingKey], *, issuer: str, audience: str) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._remembered: dict[str, Identity] = {}

    def identify(self, authorization: str | None) -> Identity:
        """Who sent this `authorization` header. Raises Unauthenticated, saying what is wrong with it."""
        scheme, _, token = (authorization or "").partition(" ")
        token = token.strip()
        if not authorization:
            raise Unauthenticated("no token: send the header authorization: Bearer TOKEN")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("the header authorization is not of the form Bearer TOKEN")
        if len(token) > LONGEST_TOKEN_BYTES:
            raise Unauthenticated(f"the token is longer than {LONGEST_TOKEN_BYTES} bytes")
        identity = self._remembered.get(token)
        if identity is None:
            identity = _identity(self._verified(token))
            self._remember(token, identity)
        elif has_expired(identity):
            self._remembered.pop(token, None)
            raise Unauthenticated("the token has expired: get a new one")
        return identity

    def _remember(self, token: str, identity: Identity) -> None:
        if len(self._remembered) >= _REMEMBERED:
            self._remembered.pop(next(iter(self._remembered)))
        self._remembered[token] = identity

    def _verified(self, token: str) -> Mapping[str, Any]:
        failure: jwt.InvalidTokenError | None = None
        for key in self._keys:
            try:
                return jwt.decode(
                    token,
                    key.key,
                    algorithms=list(key.algorithms),
                    issuer=self._issuer,
                    audience=self._audience,
                    leeway=LEEWAY,
                    options={"require": ["exp", "iss", "aud", "sub"]},
                )
            except jwt.InvalidTokenError as exc:
                # Another key may fit; of several failures, one about the claims says more than one about the key.
                if failure is None or not isinstance(exc, jwt.InvalidSignatureError | jwt.InvalidAlgorithmError):
                    failure = exc
            except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as exc:
                failure = jwt.DecodeError(f"it can't be read ({type(exc).__name__})")
        raise Unauthenticated(self._what_is_wrong(failure)) from failure

    def _what_is_wrong(self, failure: jwt.InvalidTokenError | None) -> str:
        match failure:
            case jwt.ExpiredSignatureError():
                return "the token has expired: get a new one"
            case jwt.ImmatureSignatureError():
                return "the token is not valid yet: check the clock of who made it"
            case jwt.InvalidAudienceError():
                return f"the token is not for the audience {self._audience!r}"
            case jwt.InvalidIssuerError():
                return f"the token is not from the issuer {self._issuer!r}"
            case jwt.MissingRequiredClaimError():
                return f"the token lacks the claim {failure.claim!r}"
            case jwt.InvalidAlgorithmError():
                allowed = sorted({algorithm for key in self._keys for algorithm in key.algorithms})
                return f"the token is not signed by one of the algorithms {', '.join(allowed)}"
            case jwt.InvalidSignatureError():
                return "the signature of the token does not fit the key of this installation"
            case _:
                return "the token can't be read as a JSON Web Token"


def has_expired(identity: Identity) -> bool:
    """Whether the token of this identity is over."""
    return identity.accepted_until is not None and time.time() > identity.accepted_until.timestamp()


def _identity(claims: Mapping[str, Any]) -> Identity:
    subject, worker_id, expires = claims["sub"], claims.get("worker_id"), claims["exp"]
    if not isinstance(subject, str) or not 1 <= len(subject) <= LONGEST_SUBJECT or not subject.isprintable():
        raise Unauthenticated(f"the claim 'sub' of the token is not 1 to {LONGEST_SUBJECT} printable characters")
    if worker_id is not None and not isinstance(worker_id, str):
        raise Unauthenticated("the claim 'worker_id' of the token is no string")
    try:
        accepted_until = datetime.fromtimestamp(float(expires), UTC) + LEEWAY
    except (ValueError, OverflowError, OSError) as exc:
        raise Unauthenticated("the claim 'exp' of the token is no time") from exc
    return Identity(subject, _roles(claims), worker_id, accepted_until=accepted_until)


def _roles(claims: Mapping[str, Any]) -> frozenset[AccessRole]:
    """From the claims `roles` (list or string), `scope` (separated by spaces) and `realm_access.roles`; other names
    belong to other services."""
    realm = claims.get("realm_access")
    sources = (claims.get("roles"), claims.get("scope"), realm.get("roles") if isinstance(realm, dict) else None)
    names = {name for source in sources for name in _names(source)}
    return frozenset(_ROLES[name] for name in names if name in _ROLES)


def _names(source: object) -> list[str]:
    if isinstance(source, str):
        return source.replace(",", " ").split()
    if isinstance(source, list):
        return [name for name in source if isinstance(name, str)]
    return []
