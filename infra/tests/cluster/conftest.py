"""Fixtures for tests with a real API server; `make infra-test` runs them."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cluster.cluster import Cluster, new_cluster, prepare
from dispatchd_infra.settings import Stack
from rendered import Rendered, render_all

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test in this folder needs an API server."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.cluster_tier)


@pytest.fixture(scope="session")
def rendered() -> Rendered:
    """What is committed in gitops/, and what `infra render-cluster` prints."""
    return render_all()


@pytest.fixture(scope="session")
def cluster_of(rendered: Rendered, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Stack], Cluster]]:
    """The cluster of an environment, made when first asked for, with what `infra render-cluster` prints."""
    clusters: dict[Stack, Cluster] = {}
    with ExitStack() as running:

        def of(stack: Stack) -> Cluster:
            if stack not in clusters:
                cluster = running.enter_context(new_cluster(tmp_path_factory.mktemp(stack)))
                prepare(cluster, rendered.cluster[stack])
                clusters[stack] = cluster
            return clusters[stack]

        yield of
