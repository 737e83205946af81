"""Everything that is rendered, as parsed objects: what overlays build, what Argo CD reads, what clusters are given."""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from click.testing import CliRunner

from dispatchd_infra import regions
from dispatchd_infra.cli import main
from dispatchd_infra.folder import write
from dispatchd_infra.manifests.postgres_cluster import region_objects
from dispatchd_infra.objects import Object
from dispatchd_infra.promotion.steps import bootstrap_passive
from dispatchd_infra.region_state import Regions, RegionState, peer_of
from dispatchd_infra.settings import ENVIRONMENTS, PRODUCTION, Stack, read_common, read_environment
from kubectl import documents, kustomize

REPOSITORY = Path(__file__).parents[2]
GITOPS = REPOSITORY / "gitops"

Objects = list[Object]


@dataclass(frozen=True, slots=True)
class Rendered:
    """The objects of every environment, in three parts; the key is the stack."""

    overlays: Mapping[Stack, Objects]
    """What `kubectl kustomize` builds: what runs in the namespace."""
    argocd: Mapping[Stack, Objects]
    """What the root Application reads: projects, Applications, secret stores and issuers."""
    cluster: Mapping[Stack, Objects]
    """What `infra render-cluster` prints: namespaces, quotas, priority classes, RBAC, and the root Application."""

    def copy(self) -> "Rendered":
        """A copy that a test may break."""
        return deepcopy(self)


Policy = Callable[[Rendered], Iterable[str]]
"""Gives a sentence for each thing that is wrong; it names the environment and the object."""

OverlayPolicy = Callable[[Stack, Objects], Iterable[str]]


def each_overlay(policy: OverlayPolicy) -> Policy:
    """Makes a policy of one that looks at each overlay alone."""

    def all_overlays(rendered: Rendered) -> Iterator[str]:
        for stack, objects in rendered.overlays.items():
            for finding in policy(stack, objects):
                yield f"{stack}: {finding}"

    all_overlays.__name__ = policy.__name__
    all_overlays.__doc__ = policy.__doc__
    return all_overlays


def render_all() -> Rendered:
    """Builds and reads everything once; some seconds."""
    return Rendered(
        overlays={stack: _overlay(stack) for stack in ENVIRONMENTS},
        argocd={stack: _argocd(stack) for stack in ENVIRONMENTS},
        cluster={stack: _cluster(stack) for stack in ENVIRONMENTS},
    )


def _overlay(stack: Stack) -> Objects:
    objects = kustomize(GITOPS / "overlays" / stack)
    if stack.is_production and not any(of_kind(objects, "Cluster")):
        return [*objects, *_first_database(stack)]
    return objects


def _first_database(stack: Stack) -> Objects:
    """What `promote-region --step bootstrap-passive` will write for a region that has no database yet.

    Until then its roles wait; they are checked with what they wait for.
    """
    followed = bootstrap_passive(regions.read(regions.files_in(REPOSITORY)), stack)
    return database_of(followed.of(stack), followed.of(peer_of(stack)))


def database_of(own: RegionState, peer: RegionState) -> Objects:
    """The database of a production region in some state, as its overlay would build it."""
    infra = REPOSITORY / "infra"
    common, environments = read_common(infra), {each: read_environment(infra, each) for each in PRODUCTION}
    objects = region_objects(common, environments, own, peer)
    return [{**each, "metadata": {**each["metadata"], "namespace": common.namespaces.dispatchd}} for each in objects]


def at_another_step(now: Rendered, state: Regions, folder: Path) -> Rendered:
    """What is rendered when the production regions are in another state; `folder` is an empty one to build it in."""
    infra = REPOSITORY / "infra"
    common, environments = read_common(infra), {each: read_environment(infra, each) for each in PRODUCTION}
    shutil.copytree(GITOPS, folder / GITOPS.name)
    for each in regions.folders(state, partial(region_objects, common, environments)):
        write(folder, each)
    overlays = {stack: kustomize(folder / GITOPS.name / "overlays" / stack) for stack in PRODUCTION}
    return replace(now, overlays={**now.overlays, **overlays})


def _argocd(stack: Stack) -> Objects:
    folder = GITOPS / "argocd" / stack
    files = sorted(path for path in folder.rglob("*.yaml") if path.name != "kustomization.yaml")
    assert files, f"{folder} has no files"
    return [document for path in files for document in documents(path.read_text(encoding="utf-8"))]


def _cluster(stack: Stack) -> Objects:
    done = CliRunner().invoke(main, ["render-cluster", "--env", str(stack), "--with-argocd"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return documents(done.stdout)


def name_of(value: Object) -> str:
    """An object as findings name it: `Deployment control-plane`."""
    return f"{value['kind']} {value['metadata']['name']}"


def of_kind(objects: Iterable[Object], *kinds: str) -> Iterator[Object]:
    """The objects of these kinds."""
    return (each for each in objects if each["kind"] in kinds)


def one(objects: Iterable[Object], kind: str, name: str) -> Object:
    """The one object of this kind whose name is `name`, or is it with kustomize's hash after it."""
    found = [each for each in of_kind(objects, kind) if plain_name(each) == name]
    assert len(found) == 1, f"{len(found)} objects are {kind} {name}"
    return found[0]


def plain_name(value: Object) -> str:
    """The name without the hash that kustomize's generators append."""
    name: str = value["metadata"]["name"]
    return name[:-11] if has_hash(value) else name


def has_hash(value: Object) -> bool:
    """Whether kustomize made the name; its hashes have ten characters of sixteen."""
    before, dash, end = value["metadata"]["name"].rpartition("-")
    return (
        value["kind"] in ("ConfigMap", "Secret")
        and bool(before and dash)
        and len(end) == 10
        and set(end) <= set("2456789bcdfghkmt")
    )


def annotations(value: Object) -> Mapping[str, str]:
    """The annotations of an object, or none."""
    return value["metadata"].get("annotations") or {}
