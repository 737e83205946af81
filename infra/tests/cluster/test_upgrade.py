"""What was released before can be upgraded to what is rendered today, without a field that can't be changed."""

import subprocess
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest

from cluster.cluster import Cluster, Refused
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import ENVIRONMENTS, Stack
from kubectl import kustomize
from rendered import REPOSITORY, Rendered, annotations, of_kind

ClusterOf = Callable[[Stack], Cluster]


@pytest.fixture(scope="session")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """gitops/ as it was in the last release; before a first release, as it was last before it became what it is now."""
    folder = tmp_path_factory.mktemp("earlier")
    archive = folder / "gitops.tar"
    git("archive", f"--output={archive}", earlier_commit(), "gitops")
    subprocess.run(["tar", "-xf", archive, "-C", folder], check=True)
    return folder / "gitops"


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_the_earlier_render_is_upgraded_to_that_of_today(
    stack: Stack, rendered: Rendered, earlier: Path, cluster_of: ClusterOf
) -> None:
    cluster, before, today = cluster_of(stack), kustomize(earlier / "overlays" / stack), rendered.overlays[stack]
    # Other tests may have applied something there already.
    cluster.delete([*before, *today])

    cluster.apply(before)
    cluster.delete(hooks(before))
    cluster.apply(today)

    for changed in with_another_selector(today):
        with pytest.raises(Refused, match=r"field is immutable|updates to statefulset spec .* are forbidden"):
            cluster.apply([changed])


def earlier_commit() -> str:
    """The last release tag. Before a first release, the newest commit whose gitops/ differs from that of today."""
    tags = git("tag", "--list", "v*", "--merged", "HEAD", "--sort=-version:refname").split()
    if tags:
        return tags[0]
    commits = git("log", "--format=%H", "--", "gitops").split()
    assert commits, "no commit has gitops/ yet, so there is nothing to upgrade from"
    for commit in commits:
        same = subprocess.run(["git", "diff", "--quiet", commit, "--", "gitops"], cwd=REPOSITORY, check=False)
        if same.returncode != 0 and git("ls-tree", commit, "gitops"):
            return commit
    return commits[0]


def hooks(objects: list[Object]) -> list[Object]:
    """What Argo CD deletes before it makes it anew."""
    return [each for each in objects if "argocd.argoproj.io/hook" in annotations(each)]


def with_another_selector(objects: list[Object]) -> list[Object]:
    """Every Deployment and StatefulSet with one more label in its selector and its pods."""
    changed = [deepcopy(each) for each in of_kind(objects, "Deployment", "StatefulSet")]
    assert changed
    for each in changed:
        each["spec"]["selector"]["matchLabels"]["renamed"] = "yes"
        each["spec"]["template"]["metadata"]["labels"]["renamed"] = "yes"
    return changed


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return done.stdout.strip()
