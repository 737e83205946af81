"""Environments differ only where they are meant to, and the two production regions only in what a region is."""

import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from dispatchd_infra.settings import Stack
from policies.allowed_differences import PRODUCTION_FROM_STAGING, STAGING_FROM_DEV, WRITTEN_BY_PROMOTION
from rendered import Objects, Rendered, has_hash, plain_name

_ALLOWED = "tests/policies/allowed_differences.py"

_DATABASE_KINDS = ("Cluster", "ObjectStore", "ScheduledBackup")
"""What `regions/database/` brings, beside the ConfigMap of `regions/active`."""


def environments_differ_only_where_allowed(rendered: Rendered) -> Iterator[str]:
    """Whatever staging does not have was never tried before production. Each permission is used, or it goes."""
    for before, after, allowed in (
        (Stack.DEV, Stack.STAGING, STAGING_FROM_DEV),
        (Stack.STAGING, Stack.PROD_REGION_A, PRODUCTION_FROM_STAGING),
    ):
        found = list(_differences(rendered.overlays[before], rendered.overlays[after]))
        for place in found:
            if not any(fnmatchcase(place, pattern) for pattern in (*allowed, *WRITTEN_BY_PROMOTION)):
                yield f"{after} differs from {before} in {place}; if it is meant, allow it in {_ALLOWED}"
        for pattern in allowed:
            if not any(fnmatchcase(place, pattern) for place in found):
                yield f"{after} does not differ from {before} in {pattern}; take it out of {_ALLOWED}"


def production_regions_are_equal(rendered: Rendered) -> Iterator[str]:
    """Once each is read with its own name and its peer's, nothing else distinguishes them but images and `regions/`."""
    for part in (rendered.overlays, rendered.argocd, rendered.cluster):
        one, other = (_as_a_region(part[stack], stack) for stack in (Stack.PROD_REGION_A, Stack.PROD_REGION_B))
        for place in _differences(one, other):
            yield f"the regions differ in {place}"


def _as_a_region(objects: Objects, stack: Stack) -> Objects:
    """The objects without what `regions/` brings and without images, and with `own` and `peer` for the two names."""
    peer = Stack.PROD_REGION_B if stack is Stack.PROD_REGION_A else Stack.PROD_REGION_A
    kept = [each for each in objects if each["kind"] not in _DATABASE_KINDS and plain_name(each) != "dispatchd-region"]
    text = json.dumps(kept)
    for name, role in ((stack, "own"), (peer, "peer")):
        text = text.replace(name, role)
    return [_without_images(each) for each in json.loads(text)]


def _without_images(value: Any) -> Any:
    """Only `promote-image` decides about the images of dispatchd, perhaps for one region before the other."""
    if isinstance(value, Mapping):
        return {
            key: "dispatchd" if key == "image" and "/dispatchd-" in each else _without_images(each)
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [_without_images(each) for each in value]
    return value


def _differences(one: Objects, other: Objects) -> Iterator[str]:
    """Where they differ: `Kind name` if one lacks the object, `Kind name: path` if a value is another one."""
    names = {each["metadata"]["name"]: plain_name(each) for each in (*one, *other) if has_hash(each)}
    ones, others = (
        {f"{each['kind']} {plain_name(each)}": dict(_values(each, names)) for each in objects}
        for objects in (one, other)
    )
    for key in sorted(ones.keys() ^ others.keys()):
        yield key
    for key in sorted(ones.keys() & others.keys()):
        for path in sorted(ones[key].keys() | others[key].keys()):
            if ones[key].get(path) != others[key].get(path):
                yield f"{key}: {path}"


def _values(value: Any, names: Mapping[str, str], path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its path; items of lists go by their name if they have one."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _values(each, names, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for place, each in enumerate(value):
            key = str(each.get("name", place) if isinstance(each, Mapping) else place)
            yield from _values(each, names, f"{path}.{names.get(key, key)}")
    else:
        yield path, names.get(value, value)
