"""Every rendered object is one that Kubernetes takes with strict field validation."""

import json
from copy import deepcopy
from pathlib import Path

import jsonschema
import pytest

from dispatchd_infra.objects import Object
from dispatchd_infra.region_state import Bootstrap, DatabaseRole, RegionState
from dispatchd_infra.settings import ENVIRONMENTS, Stack
from kubectl import documents
from rendered import GITOPS, Rendered, database_of
from schema_checks import SCHEMAS, schema_findings, strict


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_every_object_of_the_overlay_fits_the_schema_of_its_kind(rendered: Rendered, stack: Stack) -> None:
    assert [finding for each in rendered.overlays[stack] for finding in schema_findings(each)] == []


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_everything_that_argo_cd_reads_fits_the_schema_of_its_kind(rendered: Rendered, stack: Stack) -> None:
    assert [finding for each in rendered.argocd[stack] for finding in schema_findings(each)] == []


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_everything_that_a_cluster_is_given_fits_the_schema_of_its_kind(rendered: Rendered, stack: Stack) -> None:
    assert [finding for each in rendered.cluster[stack] for finding in schema_findings(each)] == []


def test_components_that_stand_in_no_environment_fit_the_schemas_of_their_kinds() -> None:
    files = sorted((GITOPS / "components").glob("*/*.yaml"))
    objects = [
        document
        for file in files
        if file.name != "kustomization.yaml" and not file.name.endswith(".patch.yaml")
        for document in documents(file.read_text(encoding="utf-8"))
    ]

    assert "ScaledObject" in {each["kind"] for each in objects}
    assert [finding for each in objects for finding in schema_findings(each)] == []


@pytest.mark.parametrize("bootstrap", Bootstrap)
@pytest.mark.parametrize(
    ("role", "token"),
    [
        (DatabaseRole.PRIMARY, None),
        (DatabaseRole.PRIMARY, "eyJ0b2tlbiI6MX0="),
        (DatabaseRole.REPLICA, None),
        (DatabaseRole.DIVERGED, None),
    ],
)
def test_the_database_of_a_region_fits_the_schemas_at_every_step_of_a_switch(
    role: DatabaseRole, token: str | None, bootstrap: Bootstrap
) -> None:
    own = RegionState(Stack.PROD_REGION_B, role, bootstrap, archive=2, token=token)
    peer = RegionState(Stack.PROD_REGION_A, DatabaseRole.REPLICA, Bootstrap.INITDB, archive=1)

    objects = database_of(own, peer)

    assert "Cluster" in {each["kind"] for each in objects}
    assert [finding for each in objects for finding in schema_findings(each)] == []


DEPLOYMENT: Object = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "x"},
    "spec": {
        "selector": {"matchLabels": {"app": "x"}},
        "template": {
            "metadata": {"labels": {"app": "x"}},
            "spec": {"containers": [{"name": "x", "image": "x:1"}]},
        },
    },
}
MONITOR: Object = {
    "apiVersion": "monitoring.coreos.com/v1",
    "kind": "ServiceMonitor",
    "metadata": {"name": "x", "annotations": {"a": "1"}},
    "spec": {
        "selector": {"matchLabels": {"app": "x"}},
        "endpoints": [{"port": "http-metrics", "interval": "30s", "targetPort": 9100}],
    },
}


@pytest.mark.parametrize("valid", [DEPLOYMENT, MONITOR], ids=["built in", "custom"])
def test_a_valid_object_has_no_findings(valid: Object) -> None:
    assert list(schema_findings(valid)) == []


def test_a_misspelt_field_of_a_built_in_kind_is_found() -> None:
    broken = deepcopy(DEPLOYMENT)
    broken["spec"]["template"]["spec"]["containers"][0]["imagePullPolcy"] = "Always"

    assert "imagePullPolcy" in "".join(schema_findings(broken))


def test_a_misspelt_field_deep_in_a_custom_resource_is_found() -> None:
    broken = deepcopy(MONITOR)
    broken["spec"]["endpoints"][0]["intervall"] = "30s"

    assert "intervall" in "".join(schema_findings(broken))


def test_an_annotation_of_a_custom_resource_that_is_no_text_is_found() -> None:
    broken = deepcopy(MONITOR)
    broken["metadata"]["annotations"]["a"] = 1

    assert "metadata.annotations.a" in "".join(schema_findings(broken))


@pytest.mark.parametrize(
    ("api_version", "kind"),
    [
        ("example.org/v1", "Gadget"),
        ("postgresql.cnpg.io/v1", "Clutser"),
        ("v1", "Pdo"),
        ("gateway.networking.k8s.io/v1", "Gateway"),
    ],
)
def test_a_kind_without_a_schema_is_found(api_version: str, kind: str) -> None:
    unknown = {"apiVersion": api_version, "kind": kind, "metadata": {"name": "x"}}

    assert len(list(schema_findings(unknown))) == 1


@pytest.mark.parametrize("file", sorted(SCHEMAS.glob("*.json")), ids=lambda path: path.stem)
def test_every_vendored_schema_is_a_valid_one_once_it_is_strict(file: Path) -> None:
    schema = strict(json.loads(file.read_text(encoding="utf-8")))

    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False


def test_free_form_fields_stay_free() -> None:
    schema = strict(
        {"type": "object", "properties": {"values": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}}
    )

    jsonschema.Draft202012Validator(schema).validate({"values": {"anything": [1]}})


def test_a_field_that_is_integer_or_text_takes_both_and_no_list() -> None:
    validator = jsonschema.Draft202012Validator(strict({"x-kubernetes-int-or-string": True}))

    assert validator.is_valid(1)
    assert validator.is_valid("10%")
    assert not validator.is_valid([])
