"""The reference graph of rendered objects: who names what, and which object makes what is named.

A Secret is made by an ExternalSecret, a Certificate or a CloudNativePG Cluster, and in dev by `infra dev-secret`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dispatchd_infra.objects import Object
from workloads import Workload, templated


@dataclass(frozen=True, slots=True)
class Reference:
    """An object names another one, and perhaps one key of it."""

    source: Object
    kind: str
    name: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Provided:
    """What exists once `maker` is there. `keys` is None where they can't be known from the objects."""

    maker: Object
    keys: frozenset[str] | None = None


Provisions = dict[tuple[str, str], Provided]


def provisions(objects: Iterable[Object]) -> Provisions:
    """Everything that exists once the objects are applied and their operators have done their work."""
    made: dict[tuple[str, str], Provided] = {}
    for value in objects:
        kind, name = value["kind"], value["metadata"]["name"]
        keys = frozenset({*value.get("data", {}), *value.get("binaryData", {})}) if kind == "ConfigMap" else None
        made[kind, name] = Provided(value, keys)
        match kind:
            case "ExternalSecret":
                target = value["spec"].get("target", {}).get("name", name)
                made["Secret", target] = Provided(value, _external_keys(value["spec"]))
            case "Certificate":
                made["Secret", value["spec"]["secretName"]] = Provided(
                    value, frozenset({"tls.crt", "tls.key", "ca.crt"})
                )
            case "Cluster":
                made["Secret", f"{name}-ca"] = Provided(value, frozenset({"ca.crt", "ca.key"}))
                for suffix in ("rw", "ro", "r"):
                    made["Service", f"{name}-{suffix}"] = Provided(value)
            case "StatefulSet":
                for claim in value["spec"].get("volumeClaimTemplates", ()):
                    made["PersistentVolumeClaim", claim["metadata"]["name"]] = Provided(value)
    return made


def _external_keys(spec: Mapping[str, Any]) -> frozenset[str] | None:
    template = spec.get("target", {}).get("template", {})
    if "data" in template and template.get("mergePolicy", "Replace") == "Replace":
        return frozenset(template["data"])
    if spec.get("dataFrom"):
        return None
    return frozenset({*(each["secretKey"] for each in spec.get("data", ())), *template.get("data", {})})


def references(objects: Iterable[Object]) -> Iterator[Reference]:
    """Every name by which one of the objects means another one that must exist."""
    objects = list(objects)
    for workload in templated(objects):
        yield from _of_pods(workload)
    for value in objects:
        spec = value.get("spec", {})
        match value["kind"]:
            case "StatefulSet":
                yield Reference(value, "Service", spec["serviceName"])
            case "HorizontalPodAutoscaler" | "ScaledObject":
                target = spec["scaleTargetRef"]
                yield Reference(value, target.get("kind", "Deployment"), target["name"])
                for trigger in spec.get("triggers", ()):
                    if "authenticationRef" in trigger:
                        yield Reference(value, "TriggerAuthentication", trigger["authenticationRef"]["name"])
            case "TriggerAuthentication":
                for each in spec.get("secretTargetRef", ()):
                    yield Reference(value, "Secret", each["name"], each["key"])
            case "Certificate":
                yield Reference(value, spec["issuerRef"].get("kind", "Issuer"), spec["issuerRef"]["name"])
            case "ExternalSecret":
                yield Reference(
                    value, spec["secretStoreRef"].get("kind", "SecretStore"), spec["secretStoreRef"]["name"]
                )
            case "ScheduledBackup":
                yield Reference(value, "Cluster", spec["cluster"]["name"])
            case "Cluster":
                yield from _of_a_cluster(value)
            case "ObjectStore":
                yield from _of_credentials(value, spec["configuration"])


def _of_pods(workload: Workload) -> Iterator[Reference]:
    owner, spec = workload.owner, workload.spec
    yield Reference(owner, "ServiceAccount", spec.get("serviceAccountName", "default"))
    if "priorityClassName" in spec:
        yield Reference(owner, "PriorityClass", spec["priorityClassName"])
    for each in spec.get("imagePullSecrets", ()):
        yield Reference(owner, "Secret", each["name"])
    for volume in spec.get("volumes", ()):
        yield from _of_a_volume(owner, volume)
        for source in volume.get("projected", {}).get("sources", ()):
            yield from _of_a_volume(owner, source)
    for container in workload.containers:
        for each in container.get("envFrom", ()):
            for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if field in each:
                    yield Reference(owner, kind, each[field]["name"])
        for variable in container.get("env", ()):
            for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
                if field in variable.get("valueFrom", {}):
                    named = variable["valueFrom"][field]
                    yield Reference(owner, kind, named["name"], named["key"])


def _of_a_volume(owner: Object, volume: Mapping[str, Any]) -> Iterator[Reference]:
    for field, kind, name in (("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName")):
        if field in volume:
            source = volume[field]
            named = source.get(name) or source["name"]
            yield Reference(owner, kind, named)
            for item in source.get("items", ()):
                yield Reference(owner, kind, named, item["key"])
    if "persistentVolumeClaim" in volume:
        yield Reference(owner, "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"])


def _of_a_cluster(value: Object) -> Iterator[Reference]:
    spec = value["spec"]
    for how in ("initdb", "recovery"):
        secret = spec.get("bootstrap", {}).get(how, {}).get("secret")
        if secret:
            for key in ("username", "password"):
                yield Reference(value, "Secret", secret["name"], key)
    if "superuserSecret" in spec:
        yield Reference(value, "Secret", spec["superuserSecret"]["name"])
    for role in spec.get("managed", {}).get("roles", ()):
        if "passwordSecret" in role:
            yield Reference(value, "Secret", role["passwordSecret"]["name"], "password")
    plugins = [
        *spec.get("plugins", ()),
        *(each["plugin"] for each in spec.get("externalClusters", ()) if "plugin" in each),
    ]
    for plugin in plugins:
        store = plugin.get("parameters", {}).get("barmanObjectName")
        if store:
            yield Reference(value, "ObjectStore", store)


def _of_credentials(owner: Object, value: Any) -> Iterator[Reference]:
    """Every `{name, key}` below an ObjectStore's configuration is a key of a Secret."""
    if isinstance(value, Mapping):
        if set(value) == {"name", "key"}:
            yield Reference(owner, "Secret", value["name"], value["key"])
        for each in value.values():
            yield from _of_credentials(owner, each)
