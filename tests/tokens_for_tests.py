"""Tokens and the environment of roles that take them."""

from datetime import timedelta

from dispatchd.entrypoints.dev_token import make_token

SECRET = "3q2+7wAAhjKl9XzYtVbNmEwRtYuIoPaS"
AUTH = {"AUTH_ENABLED": "true", "AUTH_JWT_SHARED_SECRET": SECRET}


def token(subject: str, *roles: str, lifetime: timedelta = timedelta(hours=1), worker_id: str | None = None) -> str:
    return make_token(AUTH, subject, roles, lifetime, worker_id)


def bearer(subject: str, *roles: str, lifetime: timedelta = timedelta(hours=1)) -> tuple[tuple[str, str], ...]:
    """Call metadata."""
    return (("authorization", f"Bearer {token(subject, *roles, lifetime=lifetime)}"),)
