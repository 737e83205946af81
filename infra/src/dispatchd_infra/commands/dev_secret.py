"""`infra dev-secret`: gives dev the passwords that elsewhere a secret store has; they are in the cluster alone."""

import json
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import click

from dispatchd_infra.cluster_settings import CLUSTER_KEY, named, read_cluster
from dispatchd_infra.manifests.configuration import (
    DATABASE,
    DATABASE_PORT,
    DATABASE_SECRET,
    DATABASE_SERVICE,
    REDIS_SECRET,
)
from dispatchd_infra.settings import Stack, read_common

_PASSWORD_BYTES = 24
_TIMEOUT = "--request-timeout=30s"


@click.command("dev-secret")
@click.option("--context", required=True, help="The kubectl context of dev's cluster, as infra/clusters names it.")
@click.pass_obj
def dev_secret(infra: Path, context: str) -> None:
    """Make the Secrets of dev, if they are absent.

    Each gets a random password, which is never printed. A Secret that is there already stays as it is. This is the one
    thing that has to be done by hand before Argo CD can bring up dev; `make kind-up` does it, too.
    """
    configured = read_cluster(infra, Stack.DEV).context
    if context != configured:
        raise click.ClickException(
            f"--context {context}: {named(Stack.DEV)}: {CLUSTER_KEY}.context says that dev is {configured};"
            " nothing was made"
        )
    namespace = read_common(infra).namespaces.dispatchd
    for name, values in random_values(namespace).items():
        if _kubectl(context, "get", "secret", name, "-n", namespace, "--ignore-not-found", "--output=name"):
            click.echo(f"{name} is there already")
        else:
            _kubectl(context, "create", "-f", "-", given=_manifest(name, namespace, values))
            click.echo(f"made {name}")


def random_values(namespace: str) -> Mapping[str, Mapping[str, str]]:
    """For each Secret its keys, with new passwords that need no escaping in a URL."""
    password = secrets.token_urlsafe(_PASSWORD_BYTES)
    host = f"{DATABASE_SERVICE}.{namespace}.svc:{DATABASE_PORT}"
    return {
        DATABASE_SECRET: {
            "username": DATABASE,
            "password": password,
            "DATABASE_URL": f"postgresql://{DATABASE}:{password}@{host}/{DATABASE}",
        },
        REDIS_SECRET: {"REDIS_PASSWORD": secrets.token_urlsafe(_PASSWORD_BYTES)},
    }


def _manifest(name: str, namespace: str, values: Mapping[str, str]) -> str:
    metadata = {"name": name, "namespace": namespace}
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": dict(values)})


def _kubectl(context: str, *arguments: str, given: str = "") -> str:
    """What kubectl prints. The Secret goes to its standard input, because other users can read a command line."""
    program = shutil.which("kubectl")
    if program is None:
        raise click.ClickException("there is no `kubectl` on the PATH: https://kubernetes.io/docs/tasks/tools/")
    command = [program, f"--context={context}", _TIMEOUT, *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise click.ClickException(f"kubectl {arguments[0]} in context {context}: {done.stderr.strip()}")
    return done.stdout.strip()
