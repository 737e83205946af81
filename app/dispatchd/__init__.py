"""dispatchd: durable task orchestration over gRPC.

The names below are what programs need that submit jobs or work on them. They are imported when they are first used, so
that the server roles, which live in this package too, do not load the client.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dispatchd.sdk.client.async_client import AsyncClient as AsyncClient
    from dispatchd.sdk.client.client import Client as Client
    from dispatchd.sdk.client.submission import Submission as Submission
    from dispatchd.sdk.client.submission import SubmitOptions as SubmitOptions
    from dispatchd.sdk.errors import ClientClosed as ClientClosed
    from dispatchd.sdk.errors import DeadlineExceeded as DeadlineExceeded
    from dispatchd.sdk.errors import DispatchdError as DispatchdError
    from dispatchd.sdk.errors import IdempotencyConflict as IdempotencyConflict
    from dispatchd.sdk.errors import InvalidRequest as InvalidRequest
    from dispatchd.sdk.errors import JobCanceled as JobCanceled
    from dispatchd.sdk.errors import JobFailed as JobFailed
    from dispatchd.sdk.errors import JobNotFound as JobNotFound
    from dispatchd.sdk.errors import NotDeadLetter as NotDeadLetter
    from dispatchd.sdk.errors import NotSupported as NotSupported
    from dispatchd.sdk.errors import Overloaded as Overloaded
    from dispatchd.sdk.errors import PermissionDenied as PermissionDenied
    from dispatchd.sdk.errors import RegionPassive as RegionPassive
    from dispatchd.sdk.errors import ResultMismatch as ResultMismatch
    from dispatchd.sdk.errors import ServerError as ServerError
    from dispatchd.sdk.errors import Unauthenticated as Unauthenticated
    from dispatchd.sdk.errors import Unavailable as Unavailable
    from dispatchd.sdk.errors import UnusableCertificate as UnusableCertificate
    from dispatchd.sdk.errors import WorkerReferenceError as WorkerReferenceError
    from dispatchd.sdk.errors import WorkerSuperseded as WorkerSuperseded
    from dispatchd.sdk.job import Execution as Execution
    from dispatchd.sdk.job import ExecutionEndReason as ExecutionEndReason
    from dispatchd.sdk.job import ExecutionStatus as ExecutionStatus
    from dispatchd.sdk.job import Job as Job
    from dispatchd.sdk.job import JobStatus as JobStatus
    from dispatchd.sdk.job import ReadyQueue as ReadyQueue
    from dispatchd.sdk.job import RegisteredWorker as RegisteredWorker
    from dispatchd.sdk.job import RetryPolicy as RetryPolicy
    from dispatchd.sdk.job import WorkerStatus as WorkerStatus
    from dispatchd.sdk.load import load_worker as load_worker
    from dispatchd.sdk.task import Task as Task
    from dispatchd.sdk.tls import Tls as Tls
    from dispatchd.sdk.worker.context import Fail as Fail
    from dispatchd.sdk.worker.context import Retry as Retry
    from dispatchd.sdk.worker.context import TaskContext as TaskContext
    from dispatchd.sdk.worker.worker import Worker as Worker

_HOMES = {
    "dispatchd.sdk.client.async_client": ("AsyncClient",),
    "dispatchd.sdk.client.client": ("Client",),
    "dispatchd.sdk.client.submission": ("Submission", "SubmitOptions"),
    "dispatchd.sdk.errors": (
        "ClientClosed",
        "DeadlineExceeded",
        "DispatchdError",
        "IdempotencyConflict",
        "InvalidRequest",
        "JobCanceled",
        "JobFailed",
        "JobNotFound",
        "NotDeadLetter",
        "NotSupported",
        "Overloaded",
        "PermissionDenied",
        "RegionPassive",
        "ResultMismatch",
        "ServerError",
        "Unauthenticated",
        "Unavailable",
        "UnusableCertificate",
        "WorkerReferenceError",
        "WorkerSuperseded",
    ),
    "dispatchd.sdk.job": (
        "Execution",
        "ExecutionEndReason",
        "ExecutionStatus",
        "Job",
        "JobStatus",
        "ReadyQueue",
        "RegisteredWorker",
        "RetryPolicy",
        "WorkerStatus",
    ),
    "dispatchd.sdk.load": ("load_worker",),
    "dispatchd.sdk.task": ("Task",),
    "dispatchd.sdk.tls": ("Tls",),
    "dispatchd.sdk.worker.context": ("Fail", "Retry", "TaskContext"),
    "dispatchd.sdk.worker.worker": ("Worker",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


if not TYPE_CHECKING:  # or a type checker would take any misspelled name for one of these

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used."""
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return sorted(_HOME_OF)
