"""Objects of a cluster are applied stage by stage, through one provider, and what must not go is protected."""

import pulumi
import pulumi_kubernetes
from pulumi.runtime import mocks

from dispatchd_infra.objects import Object
from dispatchd_infra.prepared_cluster import PreparedCluster, stages_of
from pulumi_mocks import Registered


def an(kind: str, name: str, version: str = "v1", namespace: str | None = None) -> Object:
    metadata = {"name": name} if namespace is None else {"name": name, "namespace": namespace}
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


OBJECTS = [
    an("Application", "root", "argoproj.io/v1alpha1", "argocd"),
    an("Deployment", "argocd-server", "apps/v1", "argocd"),
    an("AppProject", "bootstrap", "argoproj.io/v1alpha1", "argocd"),
    an("Namespace", "argocd"),
    an("CustomResourceDefinition", "applications.argoproj.io", "apiextensions.k8s.io/v1"),
    an("Secret", "argocd-secret", namespace="argocd"),
]


def test_each_stage_waits_for_what_it_needs() -> None:
    assert [[each["kind"] for each in stage] for stage in stages_of(OBJECTS)] == [
        ["Namespace", "CustomResourceDefinition"],
        ["Deployment", "Secret"],
        ["AppProject"],
        ["Application"],
    ]


def test_every_object_goes_through_the_given_provider_and_the_irreplaceable_are_protected() -> None:
    registered = Registered()
    mocks.set_mocks(registered, project="dispatchd-clusters", stack="dev")
    options: dict[str, tuple[bool | None, list[str]]] = {}

    def note(args: pulumi.ResourceTransformationArgs) -> None:
        if isinstance(args.resource, pulumi.CustomResource):
            options[args.name] = (args.opts.protect, list(args.opts.additional_secret_outputs or []))

    def main() -> None:
        pulumi.runtime.register_stack_transformation(note)
        PreparedCluster("dev", OBJECTS, pulumi_kubernetes.Provider("dev", context="kind-dispatchd"))

    pulumi.runtime.test(main)()  # type: ignore[no-untyped-call]

    applied = [args for args in registered.resources if args.typ.startswith("kubernetes:")]
    types = [args.typ for args in applied]
    assert sorted(types[:2]) + sorted(types[2:4]) + types[4:] == [
        "kubernetes:apiextensions.k8s.io/v1:CustomResourceDefinition",
        "kubernetes:core/v1:Namespace",
        "kubernetes:apps/v1:Deployment",
        "kubernetes:core/v1:Secret",
        "kubernetes:argoproj.io/v1alpha1:AppProject",
        "kubernetes:argoproj.io/v1alpha1:Application",
    ]
    assert all((args.provider or "").endswith("::id of dev") for args in applied)
    assert {name for name, (protect, _) in options.items() if protect} == {"argocd", "applications.argoproj.io"}
    assert options["argocd/argocd-secret"][1] == ["data", "stringData"]
