"""Nothing is left for an operator to add where Argo CD would take it for a difference, and try to undo it for ever.

Argo CD compares a list as a whole, so that a default which the API server adds to an element of one makes it differ.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from dispatchd_infra.objects import Object
from dispatchd_infra.settings import Stack
from rendered import Rendered, of_kind, one
from schema_checks import SCHEMAS


def _left_out(value: Object) -> Iterator[str]:
    """Paths of fields within lists that have a default and are not written."""
    group, _, version = value["apiVersion"].rpartition("/")
    file = SCHEMAS / f"{group}_{value['kind'].lower()}_{version}.json"
    if file.exists():
        yield from _below(json.loads(file.read_text("utf-8")), value, value["kind"], in_list=False)


def _below(schema: Mapping[str, Any], value: Any, path: str, *, in_list: bool) -> Iterator[str]:
    if isinstance(value, list):
        for number, each in enumerate(value):
            yield from _below(schema.get("items", {}), each, f"{path}.{number}", in_list=True)
    elif isinstance(value, dict):
        for name, field in schema.get("properties", {}).items():
            if name in value:
                yield from _below(field, value[name], f"{path}.{name}", in_list=in_list)
            elif in_list and "default" in field:
                yield f"{path}.{name}"


def test_defaults_within_lists_are_written_out(rendered: Rendered) -> None:
    parts = (rendered.overlays, rendered.argocd)

    assert [path for part in parts for objects in part.values() for value in objects for path in _left_out(value)] == []


def test_a_default_that_is_left_out_is_noticed(rendered: Rendered) -> None:
    cluster = one(rendered.copy().overlays[Stack.STAGING], "Cluster", "postgres")
    del cluster["spec"]["plugins"][0]["enabled"]

    assert list(_left_out(cluster)) == ["Cluster.spec.plugins.0.enabled"]


def test_claims_of_stateful_sets_say_what_they_are(rendered: Rendered) -> None:
    """The API server adds version and kind to each (argoproj/argo-cd, issue 11143)."""
    claims = [
        claim
        for objects in rendered.overlays.values()
        for each in of_kind(objects, "StatefulSet")
        for claim in each["spec"].get("volumeClaimTemplates", ())
    ]

    assert claims
    assert {(claim.get("apiVersion"), claim.get("kind")) for claim in claims} == {("v1", "PersistentVolumeClaim")}
