"""Builds one tool with Go, showing how far it is, and puts it into the cache in one step."""

import fcntl
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from infra_tools.catalogue import KUBERNETES_PROVIDER, Tool, cache

_SHOW_EVERY = timedelta(seconds=15)


class BuildFailed(Exception):
    """Go could not build a tool; the text ends with what Go said."""


def build(tool: Tool, go: Path) -> timedelta:
    """Builds the tool unless somebody else just did; returns how long that took. Raises BuildFailed."""
    started = time.monotonic()
    with _alone(tool):
        if not tool.built.is_file():
            if tool is KUBERNETES_PROVIDER:
                _embed_schema(tool, go)
            _compile(tool, go)
    return timedelta(seconds=time.monotonic() - started)


def _compile(tool: Tool, go: Path) -> None:
    packages = len(_run(tool, go, "list", "-deps", tool.package).splitlines())
    tool.built.parent.mkdir(parents=True, exist_ok=True)
    unfinished = tool.built.with_suffix(".unfinished")
    flags = " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in tool.stamps)])
    command = [
        str(go),
        "build",
        "-v",
        "-trimpath",
        "-buildvcs=false",
        "-ldflags",
        flags,
        "-o",
        str(unfinished),
        tool.package,
    ]
    started = shown = time.monotonic()
    print(f"{tool.name}: building {tool.version}, {packages} packages", flush=True)
    said: list[str] = []
    with subprocess.Popen(
        command, cwd=tool.folder, env=_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            now = time.monotonic()
            if now - shown >= _SHOW_EVERY.total_seconds():
                shown = now
                print(
                    f"{tool.name}: {len(said)} of at most {packages} packages after {now - started:.0f} s", flush=True
                )
    if process.returncode != 0:
        raise BuildFailed("".join(said[-20:]).strip())
    unfinished.rename(tool.built)


def _embed_schema(tool: Tool, go: Path) -> None:
    """Writes the two files that main.go embeds, as the provider's own release does: the schema gets the version."""
    module = "github.com/pulumi/pulumi-kubernetes/provider/v4"
    _run(tool, go, "mod", "download", module)
    source = Path(_run(tool, go, "list", "-m", "-f", "{{.Dir}}", module).strip()) / "cmd" / tool.name
    schema = json.loads((source / "schema.json").read_bytes()) | {"version": tool.version.removeprefix("v")}
    (tool.folder / "schema-embed.json").write_text(json.dumps(schema), encoding="utf-8")
    mapping = (source / "terraform-mapping.json").read_bytes()
    (tool.folder / "terraform-mapping-embed.json").write_bytes(mapping)


def _run(tool: Tool, go: Path, *arguments: str) -> str:
    done = subprocess.run(
        [go, *arguments], cwd=tool.folder, env=_environment(), capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BuildFailed("\n".join(done.stderr.strip().splitlines()[-20:]))
    return done.stdout


def _environment() -> dict[str, str]:
    # Go must neither fetch another version of itself nor look at a workspace around ours.
    return {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOWORK": "off", "GOFLAGS": "-mod=readonly"}


@contextmanager
def _alone(tool: Tool) -> Iterator[None]:
    """Lets one process at a time build a module, even from another clone."""
    cache().mkdir(parents=True, exist_ok=True)
    with (cache() / f"{tool.module}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{tool.name}: waiting, because another process builds it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
