"""Argo CD's own manifest: verified before it is read, put into its namespace, told what a healthy Application is."""

import hashlib
import urllib.request
from datetime import timedelta
from http.client import HTTPException
from pathlib import Path
from typing import Any

import yaml

from dispatchd_infra.cluster_settings import CLUSTER_KEY, Manifest
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import COMMON, SettingsError

_DOWNLOAD = timedelta(seconds=60)
_HEALTH_OF_APPLICATIONS = """\
health = {status = "Progressing", message = "Argo CD has not looked at this Application yet"}
if obj.status ~= nil and obj.status.health ~= nil then
  health.status = obj.status.health.status
  health.message = obj.status.health.message
end
return health
"""
"""An Application is as healthy as what it applies. Argo CD has no such check, so that its waves would not wait."""

_CLUSTER_SCOPED = frozenset({"CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"})


def read_manifest(source: Manifest, base: Path, namespace: str, where: str) -> list[Object]:
    """The objects of Argo CD, in `namespace`. `base` is the folder that a relative path starts from.

    Raises SettingsError if the file can't be had, isn't the one with that SHA-256, or holds what we would not apply.
    """
    content = _content(source.manifest, base, where)
    found = hashlib.sha256(content).hexdigest()
    if found != source.sha256:
        raise SettingsError(
            f"{where}: {CLUSTER_KEY}.argocd.sha256: {source.manifest} has {found} and not {source.sha256};"
            " nothing was applied. Look at what changed before you write the new value"
        )
    try:
        objects = [each for each in yaml.load_all(content, Loader=_Loader) if each is not None]
    except yaml.YAMLError as exc:
        raise SettingsError(f"{where}: {CLUSTER_KEY}.argocd.manifest: {source.manifest} is no YAML") from exc
    for each in objects:
        _refuse_what_is_not_ours_to_apply(each, namespace, f"{where}: {CLUSTER_KEY}.argocd.manifest")
    return [_with_health_of_applications(_placed(each, namespace)) for each in objects]


_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _content(manifest: str, base: Path, where: str) -> bytes:
    try:
        if manifest.startswith("https://"):
            with urllib.request.urlopen(manifest, timeout=_DOWNLOAD.total_seconds()) as response:
                return bytes(response.read())
        return (base / manifest).read_bytes()
    except (OSError, HTTPException) as exc:
        raise SettingsError(f"{where}: {CLUSTER_KEY}.argocd.manifest: {manifest} can't be read: {exc}") from exc


def _refuse_what_is_not_ours_to_apply(value: Object, namespace: str, where: str) -> None:
    if not _is_object(value):
        raise SettingsError(f"{where}: a document in it is no Kubernetes object")
    name = f"{value['kind']} {value['metadata']['name']}"
    if value["kind"] == "Secret" and (value.get("data") or value.get("stringData")):
        raise SettingsError(f"{where}: {name} has data, which would be kept in Pulumi's state")
    others = {each["namespace"] for each in value.get("subjects", []) if each.get("namespace", namespace) != namespace}
    if others:
        raise SettingsError(
            f"{where}: {name} is for namespace {', '.join(sorted(others))},"
            f" but {COMMON}: namespaces.argocd is {namespace}"
        )


def _is_object(value: Any) -> bool:
    """Whether this has at least what every object of Kubernetes has. A page that says that a file is gone does not."""
    metadata = value.get("metadata") if isinstance(value, dict) else None
    return isinstance(metadata, dict) and all((value.get("apiVersion"), value.get("kind"), metadata.get("name")))


def _placed(value: Object, namespace: str) -> Object:
    if value["kind"] in _CLUSTER_SCOPED:
        return value
    return {**value, "metadata": {**value["metadata"], "namespace": namespace}}


def _with_health_of_applications(value: Object) -> Object:
    if (value["kind"], value["metadata"]["name"]) != ("ConfigMap", "argocd-cm"):
        return value
    key = "resource.customizations.health.argoproj.io_Application"
    return {**value, "data": {**(value.get("data") or {}), key: _HEALTH_OF_APPLICATIONS}}
