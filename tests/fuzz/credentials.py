"""What a caller shows where tokens are asked for: nothing, rubbish, tokens that are wrong in one thing, good ones."""

import base64
import json
import random
import time
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from functools import cache

import jwt

from dispatchd.domain.access import METHODS, AccessRole
from tokens_for_tests import SECRET, bearer

Header = tuple[str, str | bytes]


class Shown(StrEnum):
    """What is wrong with it, if anything."""

    NOTHING = "nothing"
    RUBBISH = "rubbish"
    EXPIRED = "expired"
    NOT_YET = "not yet valid"
    OTHER_AUDIENCE = "for another audience"
    FORGED = "signed with another secret"
    UNSIGNED = "not signed"
    ODD_CLAIMS = "claims of odd types"
    HUGE = "huge"
    OTHER_ROLE = "for another role"
    GOOD = "good"


REFUSED = [shown for shown in Shown if shown is not Shown.GOOD]
_RUBBISH = (
    "Bearer",
    "Bearer ",
    "Bearer x",
    "Bearer a.b.c",
    "Bearer ...",
    "Basic dXNlcjpwYXNz",
    "bearer bearer bearer",
    "Bearer eyJ.eyJ.",
    "Bearer " + "." * 5_000,
    "Bearer " + "A" * 8_192,
    "Bearer " + base64.urlsafe_b64encode(b"[" * 3_000).decode() + ".e30.x",
)
_ODD = (
    {"sub": 1},
    {"sub": ""},
    {"sub": "x" * 201},
    {"sub": "a\nb"},
    {"exp": "soon"},
    {"exp": 1e300},
    {"aud": {"a": 1}},
    {"iss": None},
    {"nbf": "x"},
    {"worker_id": 5},
)
_CHANGES: dict[Shown, dict[str, object]] = {
    Shown.EXPIRED: {"exp": 1_000_000_000},
    Shown.NOT_YET: {"nbf": 4_000_000_000},
    Shown.OTHER_AUDIENCE: {"aud": "somebody else"},
}


@dataclass(frozen=True, slots=True)
class Credential:
    """One of these, drawn; its header is made when it is sent, because tokens have times in them."""

    shown: Shown
    subject: str = ""
    role: AccessRole | None = None
    draw: int = 0

    def headers(self) -> list[Header]:
        """Call metadata."""
        match self.shown:
            case Shown.NOTHING:
                return []
            case Shown.RUBBISH:
                return [("authorization", _RUBBISH[self.draw % len(_RUBBISH)])]
            case Shown.GOOD | Shown.OTHER_ROLE:
                return list(_bearer(self.subject, self.role))
            case _:
                return [("authorization", f"Bearer {self._wrong_token()}")]

    def _wrong_token(self) -> str:
        now = int(time.time())
        claims: dict[str, object] = {
            "sub": "mallory",
            "iss": "dispatchd",
            "aud": "dispatchd-clients",
            "exp": now + 3_600,
            "roles": ["admin"],
            **_CHANGES.get(self.shown, {}),
        }
        match self.shown:
            case Shown.UNSIGNED:
                parts = ({"alg": ["none", "None", "HS256"][self.draw % 3]}, claims)
                return ".".join([*(_base64(json.dumps(part).encode()) for part in parts), ""])
            case Shown.ODD_CLAIMS:
                # The library refuses to write some of them, and not to read them.
                changed = json.dumps(claims | _ODD[self.draw % len(_ODD)]).encode()
                return jwt.PyJWS().encode(changed, SECRET, algorithm="HS256")
            case Shown.HUGE:
                claims["padding"] = "x" * 9_000
        secret = "another secret of 32 bytes or more" if self.shown is Shown.FORGED else SECRET
        return jwt.encode(claims, secret, algorithm="HS256")


NO_CREDENTIAL = Credential(Shown.NOTHING)


def good(chance: random.Random, label: str, worker_id: str) -> Credential:
    """A token with one of the roles that may call a method."""
    role = chance.choice(sorted(METHODS.get(label, frozenset(AccessRole))))
    return Credential(Shown.GOOD, worker_id if role is AccessRole.WORKER else f"fuzz-{role}", role)


def refused(chance: random.Random, label: str) -> Credential:
    """Something that does not let its bearer call a method."""
    shown = chance.choice(REFUSED)
    others = sorted(set(AccessRole) - METHODS.get(label, frozenset()))
    role = chance.choice(others) if shown is Shown.OTHER_ROLE and others else None
    return Credential(shown, "mallory", role, chance.getrandbits(16))


@cache
def _bearer(subject: str, role: AccessRole | None) -> tuple[Header, ...]:
    return bearer(subject, *([] if role is None else [role]), lifetime=timedelta(hours=12))


def _base64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
