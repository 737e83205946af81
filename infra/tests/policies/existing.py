"""Every name leads to something that exists, and every key that is read is there."""

from collections.abc import Iterator

from dispatchd_infra.objects import Object
from dispatchd_infra.settings import Stack
from references import Provided, provisions, references
from rendered import Objects, Rendered, each_overlay, name_of, of_kind
from workloads import templated

DEV_SECRETS = {
    "dispatchd-database": frozenset({"DATABASE_URL", "username", "password"}),
    "dispatchd-redis": frozenset({"REDIS_PASSWORD"}),
}
"""What `infra dev-secret` makes."""

# Every namespace has it.
_DEFAULT_ACCOUNT: Object = {"kind": "ServiceAccount", "metadata": {"name": "default"}}


def references_exist(rendered: Rendered) -> Iterator[str]:
    """ConfigMaps, Secrets and their keys, ServiceAccounts, volumes, stores, issuers, scaling targets, priorities."""
    for stack, objects in rendered.overlays.items():
        exists = provisions(
            [
                *objects,
                *of_kind(rendered.argocd[stack], "ClusterSecretStore", "ClusterIssuer"),
                *of_kind(rendered.cluster[stack], "PriorityClass"),
                _DEFAULT_ACCOUNT,
            ]
        )
        if stack is Stack.DEV:
            exists |= {("Secret", name): Provided(_DEFAULT_ACCOUNT, keys) for name, keys in DEV_SECRETS.items()}
        for reference in references(objects):
            provided = exists.get((reference.kind, reference.name))
            what = f"{reference.kind} {reference.name}"
            if provided is None:
                yield f"{stack}: {name_of(reference.source)}: there is no {what}"
            elif reference.key is not None and provided.keys is not None and reference.key not in provided.keys:
                yield f"{stack}: {name_of(reference.source)}: {what} has no key {reference.key}"


@each_overlay
def mounts_have_volumes(stack: Stack, objects: Objects) -> Iterator[str]:
    """Every mount is of a volume of the pod, or of a claim of its StatefulSet; and every volume is mounted."""
    for workload in templated(objects):
        claims = workload.owner["spec"].get("volumeClaimTemplates", ())
        volumes = {each["name"] for each in workload.spec.get("volumes", ())}
        volumes |= {each["metadata"]["name"] for each in claims}
        mounted = {mount["name"] for each in workload.containers for mount in each.get("volumeMounts", ())}
        for name in sorted(mounted - volumes):
            yield f"{workload}: it mounts {name}, which is no volume of it"
        for name in sorted(volumes - mounted):
            yield f"{workload}: nobody mounts its volume {name}"


@each_overlay
def mounted_secrets_can_be_read(stack: Stack, objects: Objects) -> Iterator[str]:
    """Their files belong to root and to the group `fsGroup`, so that without it no other user reads them."""
    for workload in templated(objects):
        context = workload.spec.get("securityContext", {})
        secrets = [each["name"] for each in workload.spec.get("volumes", ()) if "secret" in each]
        if secrets and context.get("fsGroup") != context.get("runAsGroup"):
            yield f"{workload}: its group can't read {', '.join(secrets)}, because fsGroup is not its runAsGroup"
