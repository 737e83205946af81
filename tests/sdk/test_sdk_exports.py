"""What `import dispatchd` offers, and what it costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import dispatchd


def names_for_type_checkers() -> dict[str, str]:
    tree = ast.parse(Path(dispatchd.__file__).read_text())
    return {
        alias.name: statement.module or ""
        for block in tree.body
        if isinstance(block, ast.If)
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }


def test_type_checkers_and_programs_see_the_same_names() -> None:
    assert sorted(names_for_type_checkers()) == dir(dispatchd)


@pytest.mark.parametrize("name", dir(dispatchd))
def test_every_name_can_be_imported_from_where_type_checkers_look(name: str) -> None:
    assert getattr(dispatchd, name).__module__ in (names_for_type_checkers()[name], "dispatchd.sdk.load")


def test_an_unknown_name_is_an_import_error() -> None:
    with pytest.raises(ImportError, match="Wroker"):
        from dispatchd import Wroker  # type: ignore[attr-defined] # noqa: F401


def test_importing_the_package_loads_neither_grpc_nor_pydantic() -> None:
    program = "import dispatchd, sys; print([name for name in ('grpc', 'pydantic') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
