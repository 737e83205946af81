"""Prepares a cluster for Argo CD: what `infra render-cluster` prints, then Argo CD itself and its root Application."""

from pathlib import Path

from pulumi_kubernetes import Provider

from dispatchd_infra.argocd_manifest import read_manifest
from dispatchd_infra.cluster_settings import CLUSTER_KEY, checked_kubeconfig, cluster_from, named
from dispatchd_infra.folders.argocd import bootstrap
from dispatchd_infra.manifests import cluster
from dispatchd_infra.prepared_cluster import PreparedCluster
from dispatchd_infra.program import configured, refusals_end_the_program, selected_stack
from dispatchd_infra.settings import read_common, read_environment

with refusals_end_the_program():
    here = Path(__file__).parent
    stack = selected_stack()
    source = named(stack)
    settings = cluster_from(configured(CLUSTER_KEY, source), stack, source)
    common, environment = read_common(here.parent), read_environment(here.parent, stack)
    provider = Provider(
        stack,
        kubeconfig=str(checked_kubeconfig(settings, source)),
        context=settings.context,
        # Another operator's kubeconfig lies elsewhere, and is no other cluster.
        cluster_identifier=settings.context,
        enable_config_map_mutable=True,
    )
    objects = [
        *cluster.objects(common, environment),
        *read_manifest(settings.argocd, here, common.namespaces.argocd, source),
        *bootstrap(common, stack),
    ]
    PreparedCluster(stack, objects, provider)
