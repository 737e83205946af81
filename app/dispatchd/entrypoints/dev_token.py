"""Tokens for development, signed with the shared secret of the roles' environment."""

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta

import jwt

from dispatchd.entrypoints.environment import EnvironmentReader
from dispatchd.entrypoints.security_settings import AuthSettings, read_auth
from dispatchd.entrypoints.settings import SettingsError


def make_token(
    environ: Mapping[str, str], subject: str, roles: Sequence[str], lifetime: timedelta, worker_id: str | None = None
) -> str:
    """A token that roles with this environment take.

    Raises:
        SettingsError: if the environment has no shared secret, or anything else about authentication is wrong in it.
    """
    read = EnvironmentReader({**environ, "AUTH_ENABLED": "true"})
    auth = read_auth(read)
    secret = _shared_secret(read, auth)
    if auth is None or secret is None:
        raise SettingsError(read.problems)
    now = int(time.time())
    claims = {
        "sub": subject,
        "iss": auth.issuer,
        "aud": auth.audience,
        "iat": now,
        "exp": now + max(1, round(lifetime.total_seconds())),
        "roles": list(roles),
    }
    if worker_id is not None:
        claims["worker_id"] = worker_id
    return jwt.encode(claims, secret, algorithm="HS256")


def _shared_secret(read: EnvironmentReader, auth: AuthSettings | None) -> str | None:
    if read.problems or auth is None:
        return None
    key = auth.keys[0].key
    if not isinstance(key, str):
        read.refuse_unshown(
            "AUTH_JWT_PUBLIC_KEY_PEM",
            "it only verifies tokens",
            "ask your identity provider for a token, or set AUTH_JWT_SHARED_SECRET for development.",
        )
        return None
    return key
