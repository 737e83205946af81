"""A secret is found wherever in the history it is."""

import hashlib
import subprocess
from pathlib import Path

import pytest

from dispatchd_pipelines.scans import secrets
from dispatchd_pipelines.scans.finding import ScanFailed
from scanned_tree import Tree

# Put together here, so that this file has no secret in it.
SECRET = "ghp_" + hashlib.sha256(b"planted").hexdigest()[:36]


def test_a_secret_in_the_newest_commit_is_found_and_not_shown(tree: Tree) -> None:
    tree.commit("settings.py", f'TOKEN = "{SECRET}"\n')
    [found] = secrets.scan(tree.top)
    assert (found.rule, found.place, found.line) == ("github-pat", "settings.py", 1)
    assert SECRET not in str(found)


def test_a_secret_that_a_later_commit_removed_is_found_in_the_history(tree: Tree) -> None:
    tree.commit("settings.py", f'TOKEN = "{SECRET}"\n')
    tree.commit("settings.py", 'TOKEN = read("token")\n')
    [found] = secrets.scan(tree.top)
    head = subprocess.check_output(["git", "rev-parse", "HEAD~1"], cwd=tree.top, text=True).strip()
    assert found.key == f"github-pat settings.py {head[:12]}"


def test_a_secret_that_only_a_merge_brought_is_found(tree: Tree) -> None:
    tree.commit("settings.py", "TOKEN = None\n")
    tree.git("switch", "--quiet", "--create", "side")
    tree.commit("side.py", "pass\n")
    tree.git("switch", "--quiet", "-")
    tree.git("merge", "--quiet", "--no-ff", "--no-commit", "side")
    tree.commit("settings.py", f'TOKEN = "{SECRET}"\n')
    tree.commit("settings.py", 'TOKEN = read("token")\n')
    assert [each.place for each in secrets.scan(tree.top)] == ["settings.py"]


def test_attributes_that_keep_a_file_out_of_differences_do_not_hide_a_secret(tree: Tree) -> None:
    tree.write(".gitattributes", "*.py -diff\n")
    tree.commit("settings.py", f'TOKEN = "{SECRET}"\n')
    assert len(secrets.scan(tree.top)) == 1


def test_neither_colours_nor_variables_of_the_machine_hide_a_secret(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.write("allow.toml", '[allowlist]\npaths = [".*"]\n')
    monkeypatch.setenv("GITLEAKS_CONFIG", str(tree.top / "allow.toml"))
    tree.git("config", "color.ui", "always")
    tree.commit("settings.py", f'TOKEN = "{SECRET}"\n')
    assert len(secrets.scan(tree.top)) == 1


def test_a_comment_beside_a_secret_does_not_excuse_it(tree: Tree) -> None:
    tree.commit("settings.py", f'TOKEN = "{SECRET}"  # gitleaks:allow\n')
    assert len(secrets.scan(tree.top)) == 1


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (".gitleaksignore", "anything\n"),
        (".gitleaks.toml", '[extend]\nuseDefault = true\n[allowlist]\npaths = [".*"]\n'),
    ],
)
def test_a_list_of_the_scanners_own_does_not_excuse_a_secret(file: str, text: str, tree: Tree) -> None:
    tree.commit(file, text)
    tree.commit("settings.py", f'TOKEN = "{SECRET}"\n')
    with pytest.raises(ScanFailed, match=rf"remove {file}"):
        secrets.scan(tree.top)


def test_a_history_without_secrets_has_no_findings(tree: Tree) -> None:
    tree.commit("settings.py", 'TOKEN = read("token")\n')
    assert secrets.scan(tree.top) == []


def test_a_shallow_clone_fails_rather_than_pass_unsearched(tree: Tree, tmp_path: Path) -> None:
    tree.commit("settings.py", f'TOKEN = "{SECRET}"\n')
    tree.commit("settings.py", 'TOKEN = read("token")\n')
    clone = tmp_path / "shallow"
    tree.git("clone", "--quiet", "--depth=1", f"file://{tree.top}", str(clone))
    with pytest.raises(ScanFailed, match=r"shallow.*fetch-depth: 0"):
        secrets.scan(clone)


def test_a_folder_that_is_no_repository_fails(tree: Tree, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    with pytest.raises(ScanFailed, match="not a git repository"):
        secrets.scan(tmp_path / "files")
