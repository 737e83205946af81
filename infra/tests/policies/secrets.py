"""Secrets never reach git, and nothing takes the right to write away from the region row."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dispatchd_infra.objects import Object
from rendered import Rendered, name_of
from workloads import templated

_SECRET_NAMES = re.compile(r"DATABASE_URL|REDIS_PASSWORD|PASSWORD|SHARED_SECRET|TOKEN|PRIVATE_KEY|ACCESS_KEY")
_WITH_PASSWORD = re.compile(r"://[^/\s:@]*:[^/\s@]+@")
_PRIVATE = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")


def no_secret_is_rendered(rendered: Rendered) -> Iterator[str]:
    """No Secret with content, no secret as plain text in a ConfigMap or variable, no URL with a password, no key."""
    for stack, value in _everything(rendered):
        if value["kind"] == "Secret" and (value.get("data") or value.get("stringData")):
            yield f"{stack}: {name_of(value)}: a Secret with content"
        settings = {**value.get("data", {})} if value["kind"] == "ConfigMap" else {}
        for workload in templated([value]):
            for container in workload.containers:
                settings |= {each["name"]: each["value"] for each in container.get("env", ()) if each.get("value")}
        for name in settings:
            if _SECRET_NAMES.search(name) and not name.endswith("_FILE"):
                yield f"{stack}: {name_of(value)}: {name} as plain text"
        for text in _texts(value):
            if _WITH_PASSWORD.search(text) or _PRIVATE.search(text):
                yield f"{stack}: {name_of(value)}: a password or private key in a text"


def mutations_are_never_allowed_by_hand(rendered: Rendered) -> Iterator[str]:
    """ALLOW_MUTATIONS would overrule the two settings by which a region switch is one commit."""
    for stack, value in _everything(rendered):
        if any(text == "ALLOW_MUTATIONS" for text in _texts(value)):
            yield f"{stack}: {name_of(value)}: ALLOW_MUTATIONS is set"


def _everything(rendered: Rendered) -> Iterator[tuple[str, Object]]:
    for part in (rendered.overlays, rendered.argocd, rendered.cluster):
        for stack, objects in part.items():
            for value in objects:
                yield stack, value


def _texts(value: Any) -> Iterator[str]:
    """All texts in an object, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield str(key)
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
