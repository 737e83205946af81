"""The worker-gateway: workers hold a stream to it and get jobs from it."""

from dispatchd_infra.manifests.pods import deployment, service, service_account
from dispatchd_infra.manifests.roles import Role
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import Common


def objects(common: Common) -> list[Object]:
    """Everything of this role that is the same in all environments."""
    role = Role.WORKER_GATEWAY
    return [service_account(role), deployment(common, role), service(role)]
