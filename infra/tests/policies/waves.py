"""Argo CD applies wave after wave and waits for each, so nothing may need what a later wave brings."""

from collections.abc import Iterator

from dispatchd_infra.objects import Object
from dispatchd_infra.settings import Stack
from references import provisions, references
from rendered import Objects, annotations, each_overlay, has_hash, name_of, of_kind

_WAVE = "argocd.argoproj.io/sync-wave"
_COMPARE = "argocd.argoproj.io/compare-options"
_HOOK = "argocd.argoproj.io/hook"
FIRST, SECRETS, DATASTORES, MIGRATE, ROLES = -4, -3, -2, -1, 0


def wave_of(value: Object) -> int:
    """The sync wave; without an annotation it is 0."""
    return int(annotations(value).get(_WAVE, "0"))


@each_overlay
def nothing_needs_a_later_wave(stack: Stack, objects: Objects) -> Iterator[str]:
    """A pod that waits for a ConfigMap of the next wave waits for ever, and the next wave for it."""
    exists = provisions(objects)
    for reference in references(objects):
        provided = exists.get((reference.kind, reference.name))
        if provided is not None and wave_of(provided.maker) > wave_of(reference.source):
            yield (
                f"{name_of(reference.source)} (wave {wave_of(reference.source)}) needs {reference.kind} "
                f"{reference.name}, which {name_of(provided.maker)} brings in wave {wave_of(provided.maker)}"
            )


@each_overlay
def the_schema_comes_between_datastores_and_roles(stack: Stack, objects: Objects) -> Iterator[str]:
    """No name leads from a role to the datastores or to migrate, and still the order matters."""
    wanted = {
        "StatefulSet": DATASTORES,
        "Cluster": DATASTORES,
        "Job": MIGRATE,
        "Deployment": ROLES,
        "NetworkPolicy": FIRST,
        "ServiceAccount": FIRST,
        "ExternalSecret": SECRETS,
        "Certificate": SECRETS,
    }
    for value in objects:
        if value["kind"] in wanted and wave_of(value) != wanted[value["kind"]]:
            yield f"{name_of(value)}: its wave is {wave_of(value)}, not {wanted[value['kind']]}"
    for job in of_kind(objects, "Job"):
        if annotations(job).get(_HOOK) != "Sync":
            yield f"{name_of(job)}: a Job must be a Sync hook, since it can't be changed in place"


@each_overlay
def generated_config_maps_come_first(stack: Stack, objects: Objects) -> Iterator[str]:
    """kustomize's generatorOptions reach only their own file, so each generator has to say it anew."""
    for value in of_kind(objects, "ConfigMap"):
        if wave_of(value) != FIRST:
            yield f"{name_of(value)}: its wave is {wave_of(value)}, not {FIRST}"
        if has_hash(value) and annotations(value).get(_COMPARE) != "IgnoreExtraneous":
            yield f"{name_of(value)}: without compare-options IgnoreExtraneous its predecessor leaves Argo CD OutOfSync"
