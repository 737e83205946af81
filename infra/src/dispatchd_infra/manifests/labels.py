"""Names and labels by which the objects of an installation find each other."""

from collections.abc import Mapping

from pulumi_kubernetes.meta.v1 import LabelSelectorArgs, ObjectMetaArgs

from dispatchd_infra.manifests.waves import Wave, in_wave

NAME = "app.kubernetes.io/name"
PART_OF = "app.kubernetes.io/part-of"
APPLICATION = "dispatchd"

POSTGRES = "postgres"
"""Name of the database's cluster or stateful set."""
REDIS = "redis"

SERVER_PODS = {POSTGRES: {"cnpg.io/cluster": POSTGRES}, REDIS: {NAME: REDIS}}
"""The label that the pods of a datastore have. That of Postgres is the one that CloudNativePG gives to its pods."""

CLIENTS = {"dispatchd/clients": "true"}
"""Namespaces with this label may reach the control-plane and the worker-gateway."""

ROLE_PRIORITY = "dispatchd-role"
DATASTORE_PRIORITY = "dispatchd-datastore"
"""Priority classes, which belong to the cluster. Datastores come before roles: those wait for them anyway."""


def labels(name: str) -> dict[str, str]:
    """The labels of what belongs to one part of dispatchd, such as a role."""
    return {NAME: name, PART_OF: APPLICATION}


def selector(name: str) -> LabelSelectorArgs:
    """What finds the pods of a part. It can't be changed on a Deployment that exists."""
    return LabelSelectorArgs(match_labels={NAME: name})


def server_selector(server: str) -> LabelSelectorArgs:
    """What finds the pods of a datastore."""
    return LabelSelectorArgs(match_labels=SERVER_PODS[server])


def metadata(
    part: str,
    *,
    name: str | None = None,
    wave: Wave = Wave.ROLES,
    annotations: Mapping[str, str] | None = None,
) -> ObjectMetaArgs:
    """Metadata of an object of one part; it is named as the part, unless it has another name."""
    return ObjectMetaArgs(
        name=name or part,
        labels=labels(part),
        annotations={**({} if wave is Wave.ROLES else in_wave(wave)), **(annotations or {})} or None,
    )
