"""A cluster as these tests use it: objects go in by server-side apply, as Argo CD does it, and are read back."""

import json
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.definitions import custom_resource_definitions
from cluster.processes import control_plane
from dispatchd_infra.objects import Object
from infra_tools.catalogue import KUBECTL, find

_PATIENCE_S = 60
_PATIENCE = f"--timeout={_PATIENCE_S}s"


class Refused(Exception):
    """The API server did not accept something; the text is what it said."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """An API server and the administrator's way to it."""

    kubeconfig: Path

    def apply(self, objects: Iterable[Object], *, dry_run: bool = False) -> None:
        """Applies the objects in their order; a field that the API server does not know is refused. Raises Refused."""
        arguments = ["apply", "--server-side", "--validate=strict", "--field-manager=argocd-controller"]
        if dry_run:
            arguments.append("--dry-run=server")
        # The API server's warnings are about fields on their way out, which nothing rendered may have.
        self._run(*arguments, "--warnings-as-errors", "--filename=-", given=_list(objects))

    def define(self, definitions: Iterable[Object]) -> None:
        """Applies definitions of custom resources, and waits until the API server serves their kinds."""
        self.apply(definitions)
        self._await("each kind to be served", lambda: all(map(_is_established, self.read("customresourcedefinitions"))))

    def delete(self, objects: Iterable[Object]) -> None:
        """Deletes the objects that are there, and waits until they are gone."""
        listed = _list(objects)
        # kubectl's own wait takes the objects one by one.
        self._run("delete", "--ignore-not-found", "--wait=false", "--filename=-", given=listed)
        there = ("get", "--ignore-not-found", "--output=name", "--filename=-")
        self._await("objects to be gone", lambda: self._run(*there, given=listed) == "")

    def read(self, kind: str, namespace: str | None = None) -> list[Object]:
        """All objects of a kind, or of some kinds with commas between them, in one namespace or in all."""
        place = "--all-namespaces" if namespace is None else f"--namespace={namespace}"
        items: list[Object] = json.loads(self._run("get", kind, place, "--output=json"))["items"]
        return items

    def wait(self, value: Object, path: str, wanted: int | None = None) -> None:
        """Waits until the object has this field, with this value if one is given. Raises Refused after a minute."""
        metadata = value["metadata"]
        condition = f"--for=jsonpath={{{path}}}" + ("" if wanted is None else f"={wanted}")
        place = f"--namespace={metadata.get('namespace', 'default')}"
        self._run("wait", f"{value['kind']}/{metadata['name']}", place, condition, _PATIENCE)

    def await_quotas(self) -> None:
        """Waits until all quotas are counted; until then admission refuses every pod."""
        self._run("wait", "resourcequotas", "--all", "--all-namespaces", "--for=jsonpath={.status.hard}", _PATIENCE)

    def scale(self, deployment: Object, replicas: int) -> None:
        """Asks for so many replicas, as an autoscaler does."""
        metadata = deployment["metadata"]
        place = f"--namespace={metadata['namespace']}"
        self._run("scale", f"deployment/{metadata['name']}", place, f"--replicas={replicas}")

    def restart(self, deployment: Object) -> None:
        """Begins a rolling update."""
        metadata = deployment["metadata"]
        self._run("rollout", "restart", f"deployment/{metadata['name']}", f"--namespace={metadata['namespace']}")

    def _await(self, what: str, is_so: Callable[[], bool]) -> None:
        give_up = time.monotonic() + _PATIENCE_S
        while not is_so():
            if time.monotonic() > give_up:
                raise Refused(f"waited {_PATIENCE_S} s for {what}")
            time.sleep(0.1)

    def _run(self, *arguments: str, given: str | None = None) -> str:
        command = [
            str(find(KUBECTL)),
            f"--kubeconfig={self.kubeconfig}",
            f"--cache-dir={self.kubeconfig.parent / 'cache'}",
        ]
        done = subprocess.run(
            [*command, *arguments], input=given, capture_output=True, text=True, timeout=100, check=False
        )
        if done.returncode != 0:
            raise Refused(f"kubectl {arguments[0]}: {done.stderr.strip()}")
        return done.stdout


@contextmanager
def new_cluster(folder: Path) -> Iterator[Cluster]:
    """A cluster that has nothing yet but the definitions of the custom resources."""
    with control_plane(folder) as kubeconfig:
        cluster = Cluster(kubeconfig)
        cluster.define(custom_resource_definitions())
        yield cluster


def prepare(cluster: Cluster, objects: Iterable[Object]) -> None:
    """Gives the cluster what `infra render-cluster` prints, and waits until its quotas are counted."""
    cluster.apply(objects)
    cluster.await_quotas()


def _is_established(definition: Object) -> bool:
    conditions = definition.get("status", {}).get("conditions", ())
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)


def _list(objects: Iterable[Object]) -> str:
    value: dict[str, Any] = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    return json.dumps(value)
