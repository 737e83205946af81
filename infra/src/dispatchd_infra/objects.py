"""Typed Pulumi arguments become plain objects, as Kubernetes reads them."""

from collections.abc import Coroutine, Mapping
from typing import Any

from pulumi.runtime import rpc

Object = dict[str, Any]
"""A Kubernetes object: apiVersion, kind, metadata and the rest, as YAML would give it."""


def object_of(args: Any) -> Object:
    """The object that typed arguments such as `DeploymentArgs` describe; they name api_version and kind themselves.

    Pulumi's own serializer does the work, because it knows how each field is written. Integers stay integers. Raises
    TypeError for arguments that are known only after other resources are made.
    """
    value = _at_once(rpc.serialize_property(args, [], None, typ=type(args)), type(args).__name__)
    if not isinstance(value, dict) or not value.get("apiVersion") or not value.get("kind"):
        raise TypeError(f"{type(args).__name__} names no api_version and kind")
    return _plain(value)  # type: ignore[no-any-return]


def custom_object(
    api_version: str,
    kind: str,
    name: str,
    spec: Mapping[str, Any],
    *,
    namespace: str | None = None,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
) -> Object:
    """A custom resource, for which Pulumi has no types; the tests check it against the schema of its kind."""
    metadata = {"name": name, "namespace": namespace, "labels": labels, "annotations": annotations}
    value: Object = _plain({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec})
    return value


def patch(api_version: str, kind: str, name: str, spec: Mapping[str, Any]) -> Object:
    """What an overlay or a component changes of an object: only these fields of its spec (a strategic merge patch)."""
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": str(name)}, "spec": _plain(spec)}


def _at_once(coroutine: Coroutine[Any, Any, Any], name: str) -> Any:
    """The result of a coroutine that never has to wait; in a Pulumi program an event loop runs already."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise TypeError(f"{name} holds a value that is known only after other resources are made")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, str | bool | int):
        return str(value) if isinstance(value, str) else value
    raise TypeError(f"{value!r} is nothing that a Kubernetes object may hold here")
