"""The files that kustomize reads: kustomizations and components, which put objects together and change them."""

from collections.abc import Mapping, Sequence

from dispatchd_infra.manifests.waves import Wave, in_wave
from dispatchd_infra.objects import Object

FILE = "kustomization.yaml"
PATCH = ".patch.yaml"
"""What the name of a patch ends in."""


def kustomization(
    *,
    namespace: str | None = None,
    resources: Sequence[str] = (),
    components: Sequence[str] = (),
    patches: Sequence[str] = (),
    config_maps: Sequence[Object] = (),
) -> Object:
    """A kustomization. `resources` and `components` are paths from its folder; `patches` are files in it, each with the
    kind and the name of the object that it changes."""
    return _file(
        "kustomize.config.k8s.io/v1beta1",
        "Kustomization",
        namespace=namespace,
        resources=list(resources),
        components=list(components),
        patches=[{"path": path} for path in patches],
        configMapGenerator=list(config_maps),
    )


def component(
    *,
    resources: Sequence[str] = (),
    patches: Sequence[str] = (),
    config_maps: Sequence[Object] = (),
) -> Object:
    """A component: what a kustomization may include or leave out."""
    return _file(
        "kustomize.config.k8s.io/v1alpha1",
        "Component",
        resources=list(resources),
        patches=[{"path": path} for path in patches],
        configMapGenerator=list(config_maps),
    )


def config_map(name: str, values: Mapping[str, str], *, adds_to_existing: bool = False) -> Object:
    """Makes a config map whose name ends in a hash of its values, so that a changed one starts new pods; or adds values
    to one that is made elsewhere.

    Each generator says its wave itself, because options at the top of a file reach only the generators of that file.
    Argo CD is told not to mind config maps of earlier releases, which old pods still use. Raises ValueError for a value
    that kustomize would not give on as it is.
    """
    for key, value in values.items():
        if "\n" in value or value.strip("\"'") != value:
            raise ValueError(f"{key}: {value!r} begins or ends with a quote, or has several lines")
    generator: Object = {
        "name": name,
        "literals": [f"{key}={value}" for key, value in sorted(values.items())],
        "options": {
            "annotations": {
                **in_wave(Wave.SETTINGS),
                "argocd.argoproj.io/compare-options": "IgnoreExtraneous",
            }
        },
    }
    if adds_to_existing:
        generator["behavior"] = "merge"
    return generator


def _file(api_version: str, kind: str, **fields: object) -> Object:
    return {"apiVersion": api_version, "kind": kind, **{key: value for key, value in fields.items() if value}}
