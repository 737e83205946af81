"""The workflows only call what any machine can run, with as few rights as that needs, and software that was seen."""

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import tree
from dispatchd_pipelines.release import PLATFORMS

FOLDER = tree.ROOT / ".github" / "workflows"
NAMES = ("ci", "dast", "release-gitops", "security")
WORKFLOWS = {name: yaml.safe_load((FOLDER / f"{name}.yml").read_text("utf-8")) for name in NAMES}
VERSIONS = (tree.ROOT / "docs" / "versions.md").read_text("utf-8")

PROGRAMS = {"cat", "cosign", "echo", "gh", "git", "infra/.venv/bin/infra", "make"}
"""What a workflow may run beside the module: no check, build or publication of its own."""
OUR_PYTHON = ["python3", "-m", "dispatchd_pipelines.releasing"]

WRITES = {
    ("release-gitops", "promote"): {"contents", "pull-requests"},
    ("release-gitops", "publish"): {"packages"},
    ("release-gitops", "pypi"): {"id-token"},
    ("release-gitops", "release"): {"contents"},
    ("release-gitops", "sign"): {"attestations", "id-token", "packages"},
    ("security", "codeql"): {"security-events"},
    ("security", "scans"): {"security-events"},
}
"""The jobs that may write anything, and what."""


def jobs() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for name, workflow in WORKFLOWS.items():
        for job, content in workflow["jobs"].items():
            yield name, job, content


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, job, content in jobs():
        for step in content["steps"]:
            yield f"{name}/{job}", step


def lines_run() -> list[tuple[str, str]]:
    """The commands of all workflows, one by one, with where they stand."""
    joined = [(where, step["run"].replace("||\n", "|| ")) for where, step in steps() if "run" in step]
    return [(where, line.strip()) for where, text in joined for line in text.splitlines() if line.strip()]


def uses() -> list[tuple[str, str]]:
    return [(where, step["uses"]) for where, step in steps() if "uses" in step]


def test_these_are_all_workflows() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == set(NAMES)


def test_every_action_is_pinned_to_a_commit_that_was_seen_as_this_version() -> None:
    text = "".join((FOLDER / f"{name}.yml").read_text("utf-8") for name in NAMES)
    pinned = re.findall(r"uses: ([\w-]+/[\w-]+)(?:/[\w-]+)?@([0-9a-f]{40}) # (v[\d.]+)$", text, re.M)
    assert len(pinned) == len(uses())
    assert {f"| action {name} | {version}, {commit} |" for name, commit, version in pinned} == set(
        re.findall(r"^(\| action [^|]+\| [^|]+\|)", VERSIONS, re.M)
    )


def test_what_the_workflows_fetch_beside_actions_was_seen() -> None:
    [image] = [step["with"]["docker_name"] for _, step in steps() if "docker_name" in step.get("with", {})]
    reference = re.fullmatch(r"(.+):([\d.]+)@(sha256:[0-9a-f]{64})", image)
    assert reference is not None
    name, version, digest = reference.groups()
    assert f"| scanner of dast.yml, {name} | {version}, {digest[:15]}… |" in VERSIONS
    [cosign] = [step["with"]["cosign-release"] for _, step in steps() if "cosign-release" in step.get("with", {})]
    assert f"| cosign, by its installer | {cosign} |" in VERSIONS


def test_the_engine_is_the_one_of_the_module() -> None:
    engine = json.loads((tree.ROOT / "dagger.json").read_text("utf-8"))["engineVersion"].removeprefix("v")
    called = [step["with"]["version"] for _, step in steps() if "dagger-for-github" in step.get("uses", "")]
    assert called == [engine] * 6


def test_every_function_that_a_workflow_calls_is_one_of_the_module() -> None:
    called = {step["with"]["args"].split()[0] for _, step in steps() if "dagger-for-github" in step.get("uses", "")}
    assert called == {"ci", "evidence", "publish", "sboms", "promote"}
    offered = re.findall(r"^(\w+)(?: ->|$)", (tree.ROOT / "pipelines/tests/functions.txt").read_text("utf-8"), re.M)
    assert called <= set(offered)


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_has_no_rights_of_its_own_and_one_run_at_a_time(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {}
    assert set(WORKFLOWS[name]["concurrency"]) == {"group", "cancel-in-progress"}


@pytest.mark.parametrize(("name", "job", "content"), list(jobs()))
def test_a_job_says_what_it_may_write_how_long_it_takes_and_where_it_runs(
    name: str, job: str, content: dict[str, Any]
) -> None:
    rights = content["permissions"]
    assert {each for each, right in rights.items() if right == "write"} == WRITES.get((name, job), set())
    assert set(rights.values()) <= {"read", "write"}
    assert content["timeout-minutes"] <= 150
    assert content["runs-on"] == "ubuntu-24.04"


def test_every_checkout_has_the_whole_history_and_leaves_no_password_behind() -> None:
    given = [step["with"] for _, step in steps() if step.get("uses", "").startswith("actions/checkout@")]
    assert len(given) >= 5
    assert all((each["fetch-depth"], each["persist-credentials"]) == (0, False) for each in given)


def test_a_workflow_runs_nothing_but_calls() -> None:
    strangers = []
    for where, line in lines_run():
        words = shlex.split(line)
        if words[0] not in PROGRAMS and words[: len(OUR_PYTHON)] != OUR_PYTHON:
            strangers.append(f"{where}: {line}")
    assert strangers == []


def test_no_script_takes_a_word_from_outside() -> None:
    """What stands in `${{ }}` becomes part of the script; names of branches and tags are read as variables."""
    assert [line for _, line in lines_run() if "${{" in line] == []
    arguments = [step["with"]["args"] for _, step in steps() if "args" in step.get("with", {})]
    assert [each for each in arguments if "${{" in each] == []


def test_nothing_is_pushed_but_the_branch_of_the_pull_request() -> None:
    pushes = [line for _, line in lines_run() if "push" in shlex.split(line)]
    assert pushes == ['git push --force origin "HEAD:refs/heads/$HEAD"']
    [step] = [step for _, step in steps() if "git push" in step.get("run", "")]
    assert step["env"]["HEAD"] == "release-dev-${{ github.ref_name }}"


def line_with(words: str, name: str = "release-gitops") -> str:
    """The one script of a workflow that has these words."""
    found = [step["run"] for where, step in steps() if where.startswith(f"{name}/") and words in step.get("run", "")]
    assert len(found) == 1
    return str(found[0])


def run(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a script as GitHub does."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, **variables}
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_a_tag_that_is_no_commit_of_main_is_refused_and_one_that_is_goes_on(tmp_path: Path) -> None:
    """In a clone as actions/checkout makes it: at the tag, with all branches of the origin."""
    line = line_with("merge-base")
    commit = "git -c user.name=T -c user.email=t@example.org commit --quiet --allow-empty --message x"
    made = f"git init --quiet --initial-branch main here && cd here && {commit} && {commit} && git tag v1 && {commit}"
    made += f" && git switch --quiet --create side && {commit} && git tag v2 && cd .. && git clone --quiet here clone"
    assert run(made, tmp_path).returncode == 0
    outcomes = {}
    for tag in ("v1", "v2"):
        assert run(f"git checkout --quiet --detach {tag}", tmp_path / "clone").returncode == 0
        outcomes[tag] = run(line, tmp_path / "clone", MAIN="main", GITHUB_REF_NAME=tag)
    assert (outcomes["v1"].returncode, outcomes["v1"].stdout) == (0, "")
    assert (outcomes["v2"].returncode, outcomes["v2"].stdout) == (1, "::error::v2 is no commit of main\n")


@pytest.mark.parametrize("name", ["release-gitops", "security"])
@pytest.mark.parametrize(("outcome", "code"), [("passed\n", 0), ("failed\n", 1), (None, 2)])
def test_evidence_of_what_did_not_pass_ends_its_job_and_is_shown(
    name: str, outcome: str | None, code: int, tmp_path: Path
) -> None:
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "report.txt").write_text("passed      0.1 s  types\n")
    if outcome is not None:
        (tmp_path / "evidence" / "outcome.txt").write_text(outcome)
    ended = run(line_with("outcome.txt", name), tmp_path)
    assert ended.returncode == code
    assert "types" in ended.stdout


def test_the_contents_of_every_image_are_attested_for_each_platform_that_is_published() -> None:
    attested = [line for _, line in lines_run() if line.startswith("cosign attest ")]
    named = [shlex.split(line)[shlex.split(line).index("--predicate") + 1] for line in attested]
    assert named == [f"build/sboms/$SERVICE-{platform.replace('/', '-')}.cdx.json" for platform in PLATFORMS]


def test_an_image_is_signed_under_the_name_that_it_was_published_under() -> None:
    """The owner of the repository may have capital letters, which a registry has not."""
    sign = WORKFLOWS["release-gitops"]["jobs"]["sign"]
    assert sign["env"]["IMAGE"] == "${{ matrix.repository }}"
    [provenance] = [step for step in sign["steps"] if "attest-build-provenance" in step.get("uses", "")]
    assert provenance["with"]["subject-name"] == "${{ matrix.repository }}"
    assert "repository_owner }}" not in (FOLDER / "release-gitops.yml").read_text("utf-8")


def test_a_release_goes_on_only_after_what_it_rests_on() -> None:
    needs = {job: content.get("needs") for job, content in WORKFLOWS["release-gitops"]["jobs"].items()}
    assert needs == {
        "check": None,
        "publish": "check",
        "sign": "publish",
        "release": "sign",
        "pypi": "release",
        "promote": "release",
    }


def test_a_run_that_is_repeated_may_leave_its_artifacts_again() -> None:
    given = [step["with"] for _, step in steps() if step.get("uses", "").startswith("actions/upload-artifact@")]
    assert [each["name"] for each in given if each.get("overwrite") is not True] == []
    assert len(given) == 2


def test_no_workflow_runs_with_the_rights_of_the_target_of_a_pull_request() -> None:
    # YAML reads the key `on` as a boolean.
    assert [name for name in NAMES if "pull_request_target" in (WORKFLOWS[name][True] or {})] == []


def test_dependabot_looks_after_every_lock_file_that_it_knows() -> None:
    updates = yaml.safe_load((tree.ROOT / ".github" / "dependabot.yml").read_text("utf-8"))["updates"]
    watched = {
        (each["package-ecosystem"], folder.strip("/"))
        for each in updates
        for folder in each.get("directories", [each.get("directory")])
    }
    folder_of = {"uv": "**/uv.lock", "gomod": "**/go.mod"}
    expected = {
        (kind, str(file.parent).removeprefix("."))
        for kind, pattern in folder_of.items()
        for file in tree.files([pattern])
    }
    assert watched == expected | {("github-actions", ""), ("docker", "")}
