"""Finding the worker that `dispatchd worker package.module:worker` names."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from dispatchd.sdk.errors import WorkerReferenceError
from dispatchd.sdk.worker.worker import Worker

EXAMPLE = "for example shop.tasks:worker"


def load_worker(reference: str) -> Worker:
    """Import the module in `package.module:attribute` and return the worker; the current folder may hold the module.

    `WorkerReferenceError` says which part does not fit. What the module itself raises while it is imported comes out
    as it is.
    """
    module_name, colon, path = reference.partition(":")
    if not colon or not module_name or not path:
        raise WorkerReferenceError(f"{reference!r} names no worker: write module:attribute, {EXAMPLE}")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: object = importlib.import_module(module_name)
    except ModuleNotFoundError as exc:
        if exc.name is None or not (module_name == exc.name or module_name.startswith(f"{exc.name}.")):
            raise  # the module is there, but something that it imports is not
        raise WorkerReferenceError(
            f"there is no module {exc.name!r}, neither installed nor in {folder}: write module:attribute, {EXAMPLE}"
        ) from exc
    for name in path.split("."):
        if not hasattr(found, name):
            raise WorkerReferenceError(f"module {module_name} has no attribute {path!r}{_suggestion(module_name)}")
        found = getattr(found, name)
    if not isinstance(found, Worker):
        raise WorkerReferenceError(f"{reference} is a {type(found).__name__}, not a Worker{_suggestion(module_name)}")
    return found


def _suggestion(module_name: str) -> str:
    names = sorted(name for name, value in vars(sys.modules[module_name]).items() if isinstance(value, Worker))
    return f"; its workers are {', '.join(names)}" if names else "; it holds no Worker at all"
