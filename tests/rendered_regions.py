"""What `gitops/` gives to the pods of the production regions: their settings, and the commands of the hook."""

from collections.abc import Sequence
from typing import Final

from infra.container_start import config_maps_of
from infra.kustomize import overlay
from infra.objects import container, migrate_containers

Settings = dict[str, str]

_REGIONS: Final = ("prod-region-a", "prod-region-b")


def regions() -> tuple[str, str]:
    """The names of both regions: first the primary, as it is committed, then the other."""
    names = {region: settings(region, "control-plane") for region in _REGIONS}
    assert all(found["REGION"] == name for name, found in names.items())
    [primary] = {found["PRIMARY_REGION"] for found in names.values()}
    [other] = names.keys() - {primary}
    return primary, other


def epoch() -> int:
    """The committed one."""
    [found] = {settings(region, "migrate")["REGION_EPOCH"] for region in _REGIONS}
    return int(found)


def settings(region: str, workload: str) -> Settings:
    """The ConfigMaps that the first container of a role, or of `migrate`, reads as its environment, in their order."""
    objects = overlay(region)
    first = migrate_containers(objects)[0][0] if workload == "migrate" else container(objects, workload)[0]
    made = config_maps_of(objects)
    found: Settings = {}
    for source in first["envFrom"]:
        found |= made[source["configMapRef"]["name"]]
    return found


def hook() -> Sequence[Sequence[str]]:
    """The commands of a deployment, in their order."""
    return [each["args"] for each in migrate_containers(overlay(_REGIONS[0]))[0]]
