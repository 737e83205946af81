"""Whether an object is what the API server takes: strictly, so that a misspelt or unknown field is found.

Kinds of Kubernetes are checked by `kubernetes-validate`, custom resources by the schemas in `schemas/`, which are made
strict first. A kind without a schema is a finding.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate

from dispatchd_infra.objects import Object
from rendered import name_of

KUBERNETES = "1.34"
SCHEMAS = Path(__file__).parent / "schemas"

_BUILT_IN_GROUPS = ("", "apps", "batch", "autoscaling", "policy")


def schema_findings(value: Object) -> Iterator[str]:
    """A sentence for each mistake of an object."""
    group, _, version = value["apiVersion"].rpartition("/")
    file = SCHEMAS / f"{group}_{value['kind'].lower()}_{version}.json"
    if file.exists():
        yield from _metadata(value)
        for error in _custom(file).iter_errors(value):
            yield _sentence(value, error)
    elif group in _BUILT_IN_GROUPS or group.endswith(".k8s.io"):
        yield from _built_in(value)
    else:
        yield f"{name_of(value)}: {value['apiVersion']} {value['kind']} has no schema in {SCHEMAS.name}/"


def _built_in(value: Object) -> Iterator[str]:
    try:
        kubernetes_validate.validate(value, KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield _sentence(value, error)
    except kubernetes_validate.SchemaNotFoundError:
        yield f"{name_of(value)}: Kubernetes {KUBERNETES} has no {value['apiVersion']} {value['kind']}"


def _metadata(value: Object) -> Iterator[str]:
    """A CRD says nothing of metadata, which is the same for all kinds."""
    for finding in _built_in({"apiVersion": "v1", "kind": "ConfigMap", "metadata": value["metadata"]}):
        yield finding.replace("ConfigMap", value["kind"], 1)


def _sentence(value: Object, error: jsonschema.ValidationError) -> str:
    return f"{name_of(value)}: {'.'.join(map(str, error.absolute_path)) or 'object'}: {error.message}"


@cache
def _custom(file: Path) -> jsonschema.Draft202012Validator:
    schema = strict(json.loads(file.read_text(encoding="utf-8")))
    schema["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft202012Validator(schema)


def strict(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of a CRD as JSON Schema that refuses unknown fields, as strict field validation does.

    What stands inside allOf, anyOf, oneOf and not repeats fields only to restrict their values; it stays as it is.
    """
    made = dict(schema)
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("type", None)
        made.setdefault("anyOf", [{"type": "integer"}, {"type": "string"}])
    if schema.get("nullable") and isinstance(schema.get("type"), str):
        made["type"] = [schema["type"], "null"]
    if "(?i)" in schema.get("pattern", ""):
        # Go takes this flag anywhere, Python at the beginning only.
        made["pattern"] = "(?i)" + schema["pattern"].replace("(?i)", "")
    properties = {name: strict(each) for name, each in schema.get("properties", {}).items()}
    if schema.get("x-kubernetes-embedded-resource"):
        properties |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
    if properties:
        made["properties"] = properties
    if isinstance(schema.get("items"), Mapping):
        made["items"] = strict(schema["items"])
    if isinstance(schema.get("additionalProperties"), Mapping):
        made["additionalProperties"] = strict(schema["additionalProperties"])
    elif schema.get("type") == "object" and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made
