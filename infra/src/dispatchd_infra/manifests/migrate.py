"""The Job that runs before the roles in every sync: it brings the schema up to date, and then the region row.

Both commands do nothing on a read-only database and on one that is up to date already. If either fails, so does the
sync, and the pods of the release before go on serving.
"""

from pulumi_kubernetes.batch.v1 import JobArgs, JobSpecArgs
from pulumi_kubernetes.core.v1 import PodTemplateSpecArgs
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from dispatchd_infra.manifests.labels import labels, metadata
from dispatchd_infra.manifests.pods import container, pod_spec, resources, service_account
from dispatchd_infra.manifests.roles import Role
from dispatchd_infra.manifests.waves import Wave
from dispatchd_infra.objects import Object, object_of
from dispatchd_infra.settings import Capacity, Common

CAPACITY = Capacity(cpu="100m", memory="256Mi")
_DEADLINE_S = 1800
_RETRIES = 3

# A Job can't be changed, so the one of the sync before is deleted first; until then its log can be read.
_HOOK = {
    "argocd.argoproj.io/hook": "Sync",
    "argocd.argoproj.io/hook-delete-policy": "BeforeHookCreation",
}


def objects(common: Common) -> list[Object]:
    """The Job and its account."""
    return [service_account(Role.MIGRATE), _job(common)]


def _job(common: Common) -> Object:
    role = Role.MIGRATE
    migrate = container(common, role, "migrate", ["migrate"])
    apply = container(common, role, "region-apply", ["region", "apply"])
    migrate.resources = apply.resources = resources(CAPACITY)
    pod = pod_spec(role, [apply], init_containers=[migrate])
    pod.restart_policy = "Never"
    return object_of(
        JobArgs(
            api_version="batch/v1",
            kind="Job",
            metadata=metadata(role, wave=Wave.MIGRATE, annotations=_HOOK),
            spec=JobSpecArgs(
                backoff_limit=_RETRIES,
                active_deadline_seconds=_DEADLINE_S,
                template=PodTemplateSpecArgs(metadata=ObjectMetaArgs(labels=labels(role)), spec=pod),
            ),
        )
    )
