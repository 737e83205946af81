"""Custom resources among the objects of dispatchd: labelled and ordered as all others are."""

from collections.abc import Mapping
from typing import Any

from dispatchd_infra.manifests.labels import labels
from dispatchd_infra.manifests.waves import Wave, in_wave
from dispatchd_infra.objects import Object, custom_object

SYNC_OPTIONS = "argocd.argoproj.io/sync-options"
SKIP_DRY_RUN = "SkipDryRunOnMissingResource=true"
"""On a new cluster the operator that brings the kind may not be there yet; the sync tries again until it is."""

CONFIRM_REMOVAL = ("Prune=confirm", "Delete=confirm")
"""For what holds data: Argo CD removes it only after a person has agreed."""


def custom_resource(
    api_version: str,
    kind: str,
    part: str,
    spec: Mapping[str, Any],
    *,
    wave: Wave,
    name: str | None = None,
    sync_options: tuple[str, ...] = (),
) -> Object:
    """A custom resource of one part of dispatchd; it is named as the part, unless it has another name."""
    order = {} if wave is Wave.ROLES else in_wave(wave)
    return custom_object(
        api_version,
        kind,
        name or part,
        spec,
        labels=labels(part),
        annotations={**order, SYNC_OPTIONS: ",".join((SKIP_DRY_RUN, *sync_options))},
    )
