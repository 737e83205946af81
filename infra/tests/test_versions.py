"""docs/versions.md names every version of others' software that is written down in infra/, and no other."""

import re

import pytest
import yaml

from dispatchd_infra.cluster_settings import read_cluster
from dispatchd_infra.settings import ENVIRONMENTS, Stack, read_common
from rendered import REPOSITORY

INFRA = REPOSITORY / "infra"
COMMON = read_common(INFRA)
CHARTS = {chart.chart: chart.version for chart in COMMON.addons.__dict__.values()}
KIND = yaml.safe_load((INFRA / "kind" / "cluster.yaml").read_text(encoding="utf-8"))
IMAGES = {
    image.partition(":")[0]: image.partition(":")[2]
    for image in (
        *(image.reference for image in (COMMON.postgres, COMMON.postgres_dev, COMMON.valkey)),
        *(node["image"] for node in KIND["nodes"]),
    )
}
"""The tag and the digest of each, by its name."""
ROWS: dict[str, str] = {
    what.strip(): version.strip()
    for what, version in re.findall(
        r"^\| ([^|]+)\|([^|]+)\|", (REPOSITORY / "docs" / "versions.md").read_text(encoding="utf-8"), re.MULTILINE
    )
}


def _row(beginning: str) -> str:
    """The version of the one row that begins so."""
    [found] = [what for what in ROWS if re.match(rf"{re.escape(beginning)}($|[ ,])", what)]
    return ROWS[found]


@pytest.mark.parametrize("chart", CHARTS)
def test_each_chart_stands_there_with_its_version(chart: str) -> None:
    assert _row(f"chart {chart}") == CHARTS[chart]


@pytest.mark.parametrize("image", IMAGES)
def test_each_image_stands_there_with_its_tag_and_digest(image: str) -> None:
    tag, _, digest = _row(f"image {image}").partition(", ")

    assert digest.startswith("sha256:")
    assert IMAGES[image].startswith(f"{tag}@{digest.removesuffix('…')}")


@pytest.mark.parametrize("stack", ENVIRONMENTS)
def test_the_manifest_of_argo_cd_stands_there_with_its_hash(stack: Stack) -> None:
    argocd = read_cluster(INFRA, stack).argocd
    version, _, digest = _row("Argo CD").partition(", sha256 ")

    assert f"/{version}/" in argocd.manifest
    assert argocd.sha256.startswith(digest.removesuffix("…"))


def test_no_chart_and_no_image_stands_there_that_nothing_names() -> None:
    charts = [what.split()[1] for what in ROWS if what.startswith("chart ")]
    images = [what.split()[1].rstrip(",") for what in ROWS if what.startswith("image ")]

    assert sorted(charts) == sorted(CHARTS)
    assert sorted(images) == sorted(IMAGES)
