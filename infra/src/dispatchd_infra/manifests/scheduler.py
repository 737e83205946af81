"""The scheduler: retries, lost leases and retention. One of its pods leads, the others stand by."""

from dispatchd_infra.manifests.pods import deployment, service, service_account
from dispatchd_infra.manifests.roles import Role
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import Common


def objects(common: Common) -> list[Object]:
    """Everything of this role that is the same in all environments. Its Service is for Prometheus alone."""
    role = Role.SCHEDULER
    return [service_account(role), deployment(common, role), service(role)]
