"""Every method that a role serves, found in the descriptors of the contract, of health and of reflection."""

from dataclasses import dataclass, field
from typing import Any

from google.protobuf import message_factory
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from dispatchd.entrypoints.settings import Role
from dispatchd.v1 import dispatchd_pb2 as pb

_BOTH = (Role.CONTROL_PLANE, Role.WORKER_GATEWAY)


@dataclass(frozen=True, slots=True)
class Method:
    """One method, on one of the roles that serve it."""

    path: str
    label: str
    """`Service.Method`, as in the table of who may call what."""
    role: Role
    request: type[Message] = field(repr=False)
    streams_requests: bool
    streams_answers: bool

    @property
    def is_open(self) -> bool:
        """Whether anybody may call it without a token."""
        return self.label.startswith("Health.")


def _methods() -> list[Method]:
    found = []
    for descriptor, name, roles in (
        (pb.DESCRIPTOR, "JobService", (Role.CONTROL_PLANE,)),
        (pb.DESCRIPTOR, "OperatorService", (Role.CONTROL_PLANE,)),
        (pb.DESCRIPTOR, "WorkerService", (Role.WORKER_GATEWAY,)),
        (health_pb2.DESCRIPTOR, "Health", _BOTH),
        (reflection_pb2.DESCRIPTOR, "ServerReflection", _BOTH),
    ):
        service: Any = descriptor.services_by_name[name]
        for method in service.methods:
            request = message_factory.GetMessageClass(method.input_type)
            streams = method.client_streaming, method.server_streaming
            path, label = f"/{service.full_name}/{method.name}", f"{name}.{method.name}"
            found += [Method(path, label, role, request, *streams) for role in roles]
    return found


METHODS = _methods()
CONNECT = next(method for method in METHODS if method.label == "WorkerService.Connect")
LABELS = sorted({method.label for method in METHODS})
UNKNOWN = [
    Method(path, "unknown method", role, pb.GetJobRequest, streams_requests=False, streams_answers=False)
    for path in ("/dispatchd.v1.JobService/Nothing", "/dispatchd.v1.jobservice/GetJob", "/", "//", "*", "/x/y/z?q#f")
    for role in _BOTH
]
"""Paths that nobody serves."""
