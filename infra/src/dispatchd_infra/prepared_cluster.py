"""A cluster made ready for Argo CD: objects applied in stages, each after the one before it."""

from collections import defaultdict
from collections.abc import Iterable

import pulumi

from dispatchd_infra.objects import Object

_PROTECTED = frozenset({"Namespace", "CustomResourceDefinition"})
"""Deleting one of these deletes everything in it or of its kind, so that Pulumi refuses to."""


_FIRST = frozenset({"Namespace", "CustomResourceDefinition", "PriorityClass"})
_LAST = ("AppProject", "Application")


class PreparedCluster(pulumi.ComponentResource):
    """All objects, applied through the one provider that knows the cluster, in the stages of `stages_of`."""

    def __init__(self, name: str, objects: Iterable[Object], provider: pulumi.ProviderResource) -> None:
        super().__init__("dispatchd:clusters:PreparedCluster", name)
        before: list[pulumi.Resource] = []
        for stage in stages_of(objects):
            opts = pulumi.ResourceOptions(parent=self, provider=provider, depends_on=before)
            before = [KubernetesObject(each, opts) for each in stage]
        self.register_outputs({})


def stages_of(objects: Iterable[Object]) -> list[list[Object]]:
    """Objects in the order in which a new cluster takes them.

    First what others are in, of or refer to; then most of them, Argo CD included; then its projects; then Applications.
    """
    stages: dict[int, list[Object]] = defaultdict(list)
    for each in objects:
        kind = each["kind"]
        stages[0 if kind in _FIRST else 2 + _LAST.index(kind) if kind in _LAST else 1].append(each)
    return [stages[key] for key in sorted(stages)]


class KubernetesObject(pulumi.CustomResource):
    """One object as it is in YAML. What a Secret holds in the cluster is encrypted in state."""

    def __init__(self, value: Object, opts: pulumi.ResourceOptions) -> None:
        kind, version, metadata = value["kind"], value["apiVersion"], value["metadata"]
        super().__init__(
            f"kubernetes:{version if '/' in version else f'core/{version}'}:{kind}",
            f"{metadata['namespace']}/{metadata['name']}" if "namespace" in metadata else metadata["name"],
            value,
            pulumi.ResourceOptions.merge(
                opts,
                pulumi.ResourceOptions(
                    protect=kind in _PROTECTED,
                    additional_secret_outputs=["data", "stringData"] if kind == "Secret" else [],
                ),
            ),
        )
