"""What both Pulumi programs do first: find out which stack is selected and what its settings are."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pulumi
from pulumi.runtime.config import get_config, is_config_secret

from dispatchd_infra.folder import FolderError
from dispatchd_infra.settings import SettingsError, Stack


@contextmanager
def refusals_end_the_program() -> Iterator[None]:
    """Turns what a person can mend into Pulumi's own error, which is shown without a traceback."""
    try:
        yield
    except (SettingsError, FolderError) as exc:
        raise pulumi.RunError(str(exc)) from exc


def selected_stack() -> Stack:
    """The selected stack. Raises SettingsError if it is none of ours."""
    name = pulumi.get_stack()
    if name not in set(Stack):
        raise SettingsError(f"there is no stack {name}; select one of {', '.join(Stack)}")
    return Stack(name)


def configured(key: str, source: str) -> Any:
    """The value of a key such as `project:name` as the stack's file has it, or None. Raises SettingsError."""
    if is_config_secret(key):
        raise SettingsError(f"{source}: {key} is encrypted; what it leads to is public, so write it in clear")
    text = get_config(key)
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError as exc:
        raise SettingsError(f"{source}: {key}: write a mapping of keys to values (found {text!r})") from exc
