"""A datastore of one pod: its account, the Service that leads to it, and the StatefulSet that keeps it running."""

from collections.abc import Sequence

from pulumi_kubernetes.apps.v1 import StatefulSetArgs, StatefulSetSpecArgs
from pulumi_kubernetes.core.v1 import (
    PersistentVolumeClaimArgs,
    PodSpecArgs,
    PodTemplateSpecArgs,
    ServiceArgs,
    ServicePortArgs,
    ServiceSpecArgs,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from dispatchd_infra.manifests.labels import SERVER_PODS, labels, metadata, server_selector
from dispatchd_infra.manifests.pods import service_account
from dispatchd_infra.manifests.waves import Wave
from dispatchd_infra.objects import Object, object_of


def server_objects(
    server: str, pod: PodSpecArgs, *, service: str, port: ServicePortArgs, claims: Sequence[PersistentVolumeClaimArgs]
) -> list[Object]:
    """All of it. `service` is the name under which clients find the server; each claim is a volume of the pod."""
    return [service_account(server), _stateful_set(server, pod, service, claims), _service(server, service, port)]


def _stateful_set(server: str, pod: PodSpecArgs, service: str, claims: Sequence[PersistentVolumeClaimArgs]) -> Object:
    return object_of(
        StatefulSetArgs(
            api_version="apps/v1",
            kind="StatefulSet",
            metadata=metadata(server, wave=Wave.DATASTORES),
            spec=StatefulSetSpecArgs(
                replicas=1,
                service_name=service,
                selector=server_selector(server),
                template=PodTemplateSpecArgs(
                    metadata=ObjectMetaArgs(labels={**labels(server), **SERVER_PODS[server]}), spec=pod
                ),
                volume_claim_templates=list(claims) or None,
            ),
        )
    )


def _service(server: str, name: str, port: ServicePortArgs) -> Object:
    return object_of(
        ServiceArgs(
            api_version="v1",
            kind="Service",
            metadata=metadata(server, name=name, wave=Wave.DATASTORES),
            spec=ServiceSpecArgs(cluster_ip="None", selector=SERVER_PODS[server], ports=[port]),
        )
    )
