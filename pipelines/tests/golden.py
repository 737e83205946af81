"""The functions of the module as text, for people to review: test_registration.py says how it is written anew."""

from pathlib import Path

from session.engine import constructor_of, declared, kind, parameters, returned
from session.recipe import Recipe

FILE = Path(__file__).with_name("functions.txt")


def described(module: Recipe) -> str:
    """Every function with what it gives, its arguments with their defaults, and whether it is a check or cached."""
    constructor = constructor_of(module)
    functions = {"(constructor)": constructor, **dict(sorted(declared(module).items()))}
    return "\n".join(line for name, function in functions.items() for line in _lines(name, function))


def _lines(name: str, function: Recipe) -> list[str]:
    marks = [step.field for step in function.chain()]
    check = " (check)" if "withCheck" in marks else ""
    never = next((s.arguments["policy"] for s in function.chain() if s.field == "withCachePolicy"), "")
    cached = f" (cache: {never})" if never else ""
    lines = [f"{name} -> {returned(function)}{check}{cached}"]
    for argument, parameter in parameters(function).items():
        given = parameter.arguments
        default = next((f" = {given[key]}" for key in ("defaultValue", "defaultPath") if given.get(key)), "")
        lines.append(f"    {argument}: {kind(parameter.arguments['typeDef'])}{default}")
    return lines
