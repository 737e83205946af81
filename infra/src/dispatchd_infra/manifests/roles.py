"""What runs of dispatchd in a cluster, and where each part listens."""

from dataclasses import dataclass
from enum import StrEnum

from dispatchd_infra.settings import Common


class Role(StrEnum):
    """A kind of process; the value is the name of its command, of its objects, and of its pods' label."""

    CONTROL_PLANE = "control-plane"
    SCHEDULER = "scheduler"
    WORKER_GATEWAY = "worker-gateway"
    MIGRATE = "migrate"
    """Not a role of dispatchd itself: the Job that brings schema and region up to date."""


SERVING = (Role.CONTROL_PLANE, Role.SCHEDULER, Role.WORKER_GATEWAY)
"""Those that run all the time."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A port that a role listens on, with the variable that sets it."""

    name: str
    port: int
    variable: str
    for_clients: bool
    """Whether programs outside dispatchd call it; else only probes and Prometheus do."""


def _grpc() -> Listener:
    return Listener("grpc", 8080, "GRPC_PORT", for_clients=True)


def _http(port: int) -> Listener:
    return Listener("http", port, "METRICS_PORT", for_clients=False)


LISTENERS: dict[Role, tuple[Listener, ...]] = {
    Role.CONTROL_PLANE: (_grpc(), _http(9100)),
    Role.SCHEDULER: (_http(9101),),
    Role.WORKER_GATEWAY: (_grpc(), _http(9102)),
    Role.MIGRATE: (),
}

CALLED = tuple(role for role in Role if any(listener.for_clients for listener in LISTENERS[role]))
"""Those that programs outside dispatchd call."""


def image(common: Common, role: Role) -> str:
    """The image of a role, without a tag: which one is run stands in the file `images/` of an environment."""
    of = Role.CONTROL_PLANE if role is Role.MIGRATE else role
    return f"{common.registry}/dispatchd-{of}"
