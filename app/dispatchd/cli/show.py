"""How commands print: one JSON document for programs, tables for people, and results as they are."""

import json
import sys
from collections.abc import Iterable, Sequence

import click

from dispatchd.cli.words import on_one_line

# What is not a terminal (a pipe, a file) has no width that a table would have to keep to.
_WIDTH_OF_A_PIPE = 1_000


def show_json(document: object) -> None:
    """One line, with every character that JSON allows."""
    click.echo(json.dumps(document, ensure_ascii=False))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, nothing: str) -> None:
    """A table; a column whose name ends in `#` holds numbers. Without rows, the sentence `nothing` on stderr.

    The first column is never folded, so that its ids can be copied.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[on_one_line(cell) for cell in row] for row in rows]
    if not cells:
        click.echo(nothing, err=True)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for position, column in enumerate(columns):
        name = column.removesuffix("#")
        longest = max(len(name), *(len(row[0]) for row in cells)) if position == 0 else len(name)
        table.add_column(name, justify="left" if name == column else "right", overflow="fold", min_width=longest)
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else _WIDTH_OF_A_PIPE)
    console.print(table)


def show_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Names and values, one a line; empty values are left out."""
    shown = [(name, on_one_line(value)) for name, value in fields if value]
    width = max(len(name) for name, _ in shown)
    for name, value in shown:
        click.echo(f"{name:<{width}}  {value}")


def show_result(result: bytes | None) -> None:
    """What a worker returned, byte for byte; text ends with a line break, and other bytes are kept from a terminal."""
    if not result:
        return
    try:
        text = result.decode()
    except UnicodeDecodeError:
        if sys.stdout.isatty():
            click.echo(f"(the result is {len(result):,} bytes and no text: send it to a file, or use --json)", err=True)
        else:
            click.echo(result, nl=False)
        return
    click.echo(text, nl=not text.endswith("\n"))
