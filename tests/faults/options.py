"""Command line options from the fields of a dataclass: each field that has a default may be set."""

import argparse
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, get_type_hints


def add_options(parser: argparse.ArgumentParser, kind: type[Any]) -> None:
    """Adds `--field-name` for every field; a tuple is written with commas."""
    types = get_type_hints(kind)
    for field in fields(kind):
        option = f"--{field.name.replace('_', '-')}"
        if field.default is MISSING:
            read: Callable[[str], Any] = str if types[field.name] is str else _tuple_of(str)
            parser.add_argument(option, type=read, required=True)
        else:
            parser.add_argument(option, type=_reader(field.default), default=field.default)


def _reader(default: object) -> Callable[[str], Any]:
    if isinstance(default, tuple):
        return _tuple_of(type(default[0]))
    return type(default)


def _tuple_of(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    return lambda text: tuple(kind(part) for part in text.split(","))
