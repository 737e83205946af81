"""What External Secrets makes is what CloudNativePG and the roles read."""

from dispatchd_infra.manifests import external_secrets, postgres_cluster
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import Stack, read_common, read_environment
from pulumi_mocks import INFRA

COMMON = read_common(INFRA)


def _template(name: str) -> Object:
    [found] = [each for each in external_secrets.objects(COMMON) if each["spec"]["target"]["name"] == name]
    template: Object = found["spec"]["target"]["template"]
    return template


def test_postgres_takes_its_owner_and_a_changed_password_from_the_secret_of_the_database() -> None:
    environment = read_environment(INFRA, Stack.STAGING)
    objects = postgres_cluster.objects(COMMON, environment, Stack.STAGING)
    [initdb] = [each["spec"]["bootstrap"]["initdb"] for each in objects if each["kind"] == "Cluster"]

    template = _template(initdb["secret"]["name"])

    assert template["type"] == "kubernetes.io/basic-auth"
    assert template["metadata"]["labels"] == {"cnpg.io/reload": "true"}
    assert template["data"]["username"] == initdb["owner"]
    assert template["data"]["password"] == "{{ .password }}"


def test_a_password_is_escaped_where_it_stands_in_a_url() -> None:
    """`urlquery` is for queries, where a blank is a plus; before the host a plus is a plus."""
    url = _template("dispatchd-database")["data"]["DATABASE_URL"]

    assert url.startswith('postgresql://dispatchd:{{ .password | urlquery | replace "+" "%20" }}@postgres-rw.')
