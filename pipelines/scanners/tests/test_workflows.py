"""A workflow that an attacker could use, or that GitHub would refuse, is found."""

from pathlib import Path

import pytest

from dispatchd_pipelines.scans import go_modules, workflows
from dispatchd_pipelines.scans.finding import ScanFailed
from scanned_tree import Tree

TOOLS = Path(__file__).resolve().parents[1]
FINE = """\
name: fine
on: push
permissions: {}
concurrency:
  group: fine
  cancel-in-progress: true
jobs:
  fine:
    name: fine
    runs-on: ubuntu-24.04
    steps:
      - uses: actions/checkout@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2
        with:
          persist-credentials: false
"""
ACTION = """\
name: some
description: Does nothing.
runs:
  using: composite
  steps: []
"""


def found(tree: Tree, text: str) -> set[str]:
    tree.write(".github/workflows/some.yml", text)
    return {each.key for each in workflows.openings(tree.top)}


def test_a_workflow_without_faults_has_no_findings(tree: Tree) -> None:
    assert found(tree, FINE) == set()


def test_an_action_that_is_not_pinned_is_found(tree: Tree) -> None:
    text = FINE.replace("@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2", "@v6")
    assert "zizmor/unpinned-uses .github/workflows/some.yml" in found(tree, text)


def test_a_comment_beside_it_does_not_excuse_it(tree: Tree) -> None:
    text = FINE.replace("@de0fac2e4500dabe0009e67214ff5f5447ce83dd # v6.0.2", "@v6 # zizmor: ignore[unpinned-uses]")
    assert found(tree, text) == {"excused-in-place .github/workflows/some.yml"}


@pytest.mark.parametrize(("file", "text"), [("workflows/other.yaml", FINE), ("actions/some/action.yml", ACTION)])
def test_a_comment_does_not_excuse_anything_in_any_file_that_github_reads(file: str, text: str, tree: Tree) -> None:
    tree.write(f".github/{file}", "# zizmor: ignore[unpinned-uses]\n" + text)
    assert f"excused-in-place .github/{file}" in found(tree, FINE)


def test_a_script_that_takes_the_title_of_a_pull_request_is_found(tree: Tree) -> None:
    text = FINE + "      - run: echo ${{ github.event.pull_request.title }}\n"
    assert "zizmor/template-injection .github/workflows/some.yml" in found(tree, text)


def test_a_file_that_is_no_workflow_fails_with_what_is_wrong(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUST_BACKTRACE", "1")
    with pytest.raises(ScanFailed, match="'stepss' w"):
        found(tree, FINE.replace("steps:", "stepss:"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_mistake_in_an_expression_is_found(tree: Tree) -> None:
    for file in ("go.mod", "go.sum"):
        tree.write(str(go_modules.TOOLS / file), (TOOLS / file).read_text("utf-8"))
    tree.write(".github/workflows/some.yml", FINE)
    assert workflows.scan(tree.top) == []
    tree.write(".github/workflows/some.yml", FINE.replace("    name: fine\n", "    name: ${{ githubb.sha }}\n"))
    assert [each.key for each in workflows.mistakes(tree.top)] == ["actionlint/expression .github/workflows/some.yml"]


def test_a_tree_without_workflows_fails_rather_than_pass(tree: Tree) -> None:
    tree.write(".github/dependabot.yml", "version: 2\nupdates: []\n")
    with pytest.raises(ScanFailed, match="there is no workflow"):
        workflows.mistakes(tree.top)


def test_a_list_of_actionlint_does_not_excuse_a_mistake(tree: Tree) -> None:
    tree.write(".github/workflows/some.yml", FINE)
    tree.write(".github/actionlint.yaml", "paths:\n  '**':\n    ignore: ['.*']\n")
    with pytest.raises(ScanFailed, match=r"remove \.github/actionlint\.yaml"):
        workflows.mistakes(tree.top)
