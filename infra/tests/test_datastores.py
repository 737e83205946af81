"""Postgres and Valkey as pods of ours: what they are given, and what of it others may see."""

import os
import subprocess
from pathlib import Path

import pytest

from dispatchd_infra.manifests import dev_postgres, redis
from dispatchd_infra.manifests.quantities import mebibytes, millicores
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import ENVIRONMENTS, Stack, read_common, read_environment
from pulumi_mocks import INFRA

COMMON = read_common(INFRA)


def _container(objects: list[Object]) -> tuple[Object, Object]:
    [owner] = [value for value in objects if value["kind"] == "StatefulSet"]
    pod: Object = owner["spec"]["template"]["spec"]
    [container] = pod["containers"]
    return pod, container


def _redis(stack: Stack) -> tuple[Object, Object]:
    return _container(redis.objects(COMMON, read_environment(INFRA, stack)))


def _options(container: Object) -> dict[str, str]:
    words = container["args"]
    return dict(zip(words[::2], words[1::2], strict=True))


@pytest.mark.parametrize("stack", [stack for stack in ENVIRONMENTS if stack is not Stack.DEV])
def test_outside_dev_valkey_has_no_port_without_tls(stack: Stack) -> None:
    pod, container = _redis(stack)
    options = _options(container)

    assert (options["--port"], options["--tls-port"]) == ("0", "6379")
    [files] = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] == "tls"]
    assert {options[f"--tls-{kind}-file"] for kind in ("cert", "key", "ca-cert")} == {
        f"{files}/{name}" for name in ("tls.crt", "tls.key", "ca.crt")
    }
    assert "redis-tls" in [volume.get("secret", {}).get("secretName") for volume in pod["volumes"]]


def test_in_dev_valkey_needs_no_certificate() -> None:
    pod, container = _redis(Stack.DEV)

    assert _options(container)["--port"] == "6379"
    assert not [volume for volume in pod["volumes"] if "secret" in volume]


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_valkey_keeps_nothing_on_disk_and_leaves_memory_for_its_connections(stack: Stack) -> None:
    pod, container = _redis(stack)
    options = _options(container)

    assert (options["--save"], options["--appendonly"]) == ("", "no")
    assert all("emptyDir" in volume or "secret" in volume for volume in pod["volumes"])
    most = int(options["--maxmemory"].removesuffix("mb"))
    assert 0.5 < most / mebibytes(container["resources"]["limits"]["memory"]) < 0.8


def test_the_password_of_valkey_is_no_argument_that_other_processes_could_see(tmp_path: Path) -> None:
    server = tmp_path / "valkey-server"
    server.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > arguments\ncat > input\n')
    server.chmod(0o755)
    _, container = _redis(Stack.STAGING)
    password = "of 7 # and $more"

    subprocess.run(
        [*container["command"], *container["args"]],
        cwd=tmp_path,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "REDIS_PASSWORD": password},
        check=True,
        timeout=10,
    )

    assert (tmp_path / "arguments").read_text().split("\n")[:-1] == ["-", *container["args"]]
    assert (tmp_path / "input").read_text() == f'requirepass "{password}"\n'


def test_postgres_in_dev_writes_below_its_volume_and_to_folders_of_its_own() -> None:
    environment = read_environment(INFRA, Stack.DEV)
    [owner] = [value for value in dev_postgres.objects(COMMON, environment) if value["kind"] == "StatefulSet"]
    pod, container = _container([owner])
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    variables = {variable["name"]: variable for variable in container["env"]}

    assert variables["PGDATA"]["value"].startswith(f"{mounts['data']}/")
    assert {mounts[volume["name"]] for volume in pod["volumes"]} == {"/var/run/postgresql", "/tmp"}
    assert [claim["metadata"]["name"] for claim in owner["spec"]["volumeClaimTemplates"]] == ["data"]
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsUser"] == 999
    assert {name for name, variable in variables.items() if "valueFrom" in variable} == {
        "POSTGRES_USER",
        "POSTGRES_PASSWORD",
    }


def test_postgres_has_one_address_in_all_environments() -> None:
    [service] = [
        value
        for value in dev_postgres.objects(COMMON, read_environment(INFRA, Stack.DEV))
        if value["kind"] == "Service"
    ]

    assert service["metadata"]["name"] == "postgres-rw"


def test_quantities_are_read_as_kubernetes_reads_them() -> None:
    assert [mebibytes(size) for size in ("512Mi", "2Gi", "1Ti")] == [512, 2048, 1048576]
    assert [millicores(cpu) for cpu in ("2", "250m")] == [2000, 250]
