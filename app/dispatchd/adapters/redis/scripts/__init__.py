"""The Lua scripts, each one atomic step of Redis."""

from importlib.resources import files


def read_script(name: str) -> str:
    """The text of `name`.lua."""
    return files(__package__).joinpath(f"{name}.lua").read_text("utf-8")
