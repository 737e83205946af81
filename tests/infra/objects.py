"""Rendered Kubernetes objects, as far as the tests here look into them."""

from collections.abc import Iterator
from typing import Any

Object = dict[str, Any]
Objects = list[Object]

ENVIRONMENTS = ("dev", "staging", "prod-region-a", "prod-region-b")
OUTSIDE_DEVELOPMENT = ENVIRONMENTS[1:]


def of_kind(objects: Objects, *kinds: str) -> Iterator[Object]:
    """The objects of these kinds."""
    return (each for each in objects if each["kind"] in kinds)


def named(objects: Objects, kind: str, name: str) -> Object:
    """The one object of this kind and name."""
    [found] = [each for each in of_kind(objects, kind) if each["metadata"]["name"] == name]
    return found


def container(objects: Objects, role: str) -> tuple[Object, Object]:
    """The container of a role, and the pod that it is in."""
    pod: Object = named(objects, "Deployment", role)["spec"]["template"]["spec"]
    [found] = pod["containers"]
    return found, pod


def migrate_containers(objects: Objects) -> tuple[list[Object], Object]:
    """The containers of the Job that runs before the roles, and the pod that they are in."""
    pod: Object = named(objects, "Job", "migrate")["spec"]["template"]["spec"]
    return [*pod["initContainers"], *pod["containers"]], pod
