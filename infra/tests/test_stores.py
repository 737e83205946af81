"""Secret store and issuer ask one server, and trust whom the settings name."""

from base64 import b64decode

import pytest

from dispatchd_infra.manifests import stores
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import Stack, read_common, read_environment
from pulumi_mocks import INFRA
from schema_checks import schema_findings

PRIVATE = "-----BEGIN CERTIFICATE-----\nTm90IGEgcmVhbCBvbmU=\n-----END CERTIFICATE-----\n"


def _vaults(ca_certificates: str | None) -> list[Object]:
    """How the store and the issuer of staging reach their server; all objects fit their schemas."""
    environment = read_environment(INFRA, Stack.STAGING)
    assert environment.secret_store is not None
    store = environment.secret_store.model_copy(update={"ca_certificates": ca_certificates})
    objects = stores.objects(read_common(INFRA), environment.model_copy(update={"secret_store": store}))
    assert [finding for each in objects for finding in schema_findings(each)] == []
    specs = {each["kind"]: each["spec"] for each in objects if "spec" in each}
    return [specs["ClusterSecretStore"]["provider"]["vault"], specs["ClusterIssuer"]["vault"]]


@pytest.mark.parametrize("ca_certificates", [PRIVATE, PRIVATE * 2])
def test_a_private_authority_is_trusted_by_both(ca_certificates: str) -> None:
    for vault in _vaults(ca_certificates):
        assert b64decode(vault["caBundle"], validate=True).decode() == ca_certificates


def test_without_one_both_trust_the_public_authorities() -> None:
    for vault in _vaults(None):
        assert "caBundle" not in vault
