"""A Dockerfile that gives its image more rights than it needs is found."""

import pytest

from dispatchd_pipelines.scans import containers
from dispatchd_pipelines.scans.finding import ScanFailed
from scanned_tree import Tree

FINE = 'FROM example.org/base:1.0\nUSER 65532:65532\nENTRYPOINT ["program"]\n'


def test_an_image_that_runs_as_root_is_found(tree: Tree) -> None:
    tree.write("Dockerfile", FINE.replace("65532:65532", "0:0"))
    assert [each.key for each in containers.scan(tree.top)] == ["DL3002 Dockerfile"]


def test_a_comment_beside_it_does_not_excuse_it(tree: Tree) -> None:
    tree.write("Dockerfile", FINE.replace("USER 65532:65532", "# hadolint ignore=DL3002\nUSER 0:0"))
    assert [each.key for each in containers.scan(tree.top)] == ["DL3002 Dockerfile"]


def test_neither_a_list_of_hadolints_own_nor_a_variable_excuses_it(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HADOLINT_IGNORE", "DL3002")
    tree.write(".hadolint.yaml", "ignored: [DL3002]\n")
    tree.write("Dockerfile", FINE.replace("65532:65532", "0:0"))
    assert [each.key for each in containers.scan(tree.top)] == ["DL3002 Dockerfile"]


def test_a_base_image_without_a_version_is_found(tree: Tree) -> None:
    tree.write("Dockerfile", FINE.replace(":1.0", ""))
    assert [each.key for each in containers.scan(tree.top)] == ["DL3006 Dockerfile"]


def test_a_dockerfile_without_faults_has_no_findings(tree: Tree) -> None:
    tree.write("Dockerfile", FINE)
    assert containers.scan(tree.top) == []


def test_a_tree_without_a_dockerfile_fails_rather_than_pass(tree: Tree) -> None:
    with pytest.raises(ScanFailed, match="there is no Dockerfile"):
        containers.scan(tree.top)
