"""`infra dev-secret` makes in a real API server the Secrets that dev's pods read, and leaves them alone after that."""

import os
import shutil
from base64 import b64decode
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from cluster.cluster import Cluster
from cluster.processes import CONTEXT
from dispatchd_infra.cli import main
from dispatchd_infra.settings import Stack
from infra_tools.catalogue import KUBECTL, find
from policies.existing import DEV_SECRETS
from rendered import REPOSITORY

NAMESPACE = "dispatchd"


@pytest.fixture
def infra(tmp_path: Path) -> Path:
    """Settings whose cluster of dev is the one of these tests."""
    folder = tmp_path / "infra"
    (folder / "clusters").mkdir(parents=True)
    shutil.copy2(REPOSITORY / "infra" / "common.yaml", folder)
    settings = (REPOSITORY / "infra" / "clusters" / "Pulumi.dev.yaml").read_text()
    (folder / "clusters" / "Pulumi.dev.yaml").write_text(settings.replace("kind-dispatchd", CONTEXT))
    return folder


def test_it_makes_what_dev_reads_and_a_second_time_leaves_it_alone(
    infra: Path, cluster_of: Callable[[Stack], Cluster], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = cluster_of(Stack.DEV)
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    monkeypatch.setenv("PATH", f"{find(KUBECTL).parent}{os.pathsep}{os.environ['PATH']}")

    printed = dev_secret(infra)
    made = secrets(cluster)
    assert {name: frozenset(values) for name, values in made.items()} == DEV_SECRETS
    database = made["dispatchd-database"]
    assert f":{database['password']}@" in database["DATABASE_URL"]
    values = [database["password"], made["dispatchd-redis"]["REDIS_PASSWORD"]]
    assert all(value and value not in printed for value in values)

    assert dev_secret(infra).splitlines() == [f"{name} is there already" for name in made]
    assert secrets(cluster) == made


def dev_secret(infra: Path) -> str:
    """What the command prints."""
    done = CliRunner().invoke(main, ["--infra", str(infra), "dev-secret", "--context", CONTEXT])
    assert done.exit_code == 0, done.output
    return done.output


def secrets(cluster: Cluster) -> dict[str, Mapping[str, str]]:
    """Those in the namespace, with what pods read of them."""
    return {
        each["metadata"]["name"]: {key: b64decode(value).decode() for key, value in each["data"].items()}
        for each in cluster.read("secrets", NAMESPACE)
    }
