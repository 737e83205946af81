"""What holds of everything that the module makes an engine do, whichever function is called."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import tree
from dispatchd_pipelines import pins
from dispatchd_pipelines.admitted import ADMITTED, IGNORE
from dispatchd_pipelines.checks import RUN
from dispatchd_pipelines.parts import Part, is_scan, steps_of, why_not_run
from dispatchd_pipelines.scans.trivy import FOUND, SCANNED
from dispatchd_pipelines.steps import STEPS, step
from releases import OLD, SERVICES, SHA, WANTED, FakeTags, Released, repository
from session.engine import CallFailed, Engine, declared
from session.execution import Execution, Outcome
from session.recipe import Recipe

NEVER_CACHED = ("drill", "load_test", "publish", "sboms", "promote", "scan", "integration", "images", "ci", "evidence")


JUDGE = ["python", "-m", "dispatchd_pipelines.scans"]


@dataclass(frozen=True, slots=True)
class Seen:
    """Everything that one call made an engine do."""

    execution: Execution

    def steps(self) -> Iterator[Recipe]:
        for recipe in self.execution.touched:
            yield from recipe.unfold()

    def runs_of(self) -> set[str]:
        return {
            s.arguments["value"] for s in self.steps() if s.field == "withEnvVariable" and s.arguments["name"] == RUN
        }


@pytest.fixture(scope="module")
def ci(engine: Engine) -> Seen:
    execution = Execution()
    engine.call("ci", {"all_faults": True}, execution=execution)
    return Seen(execution)


@pytest.fixture(scope="module")
def publish(released: Released) -> Seen:
    return Seen(released.execution)


def test_every_image_is_one_of_the_table_and_pinned_by_its_digest(ci: Seen, publish: Seen) -> None:
    table = {value for name, value in vars(pins).items() if name.isupper() and "@" in str(value)}
    assert len(table) == 7
    assert [image for image in table if not re.fullmatch(r"[a-z./-]+:[\w.-]+@sha256:[0-9a-f]{64}", image)] == []
    used = {s.arguments["address"] for seen in (ci, publish) for s in seen.steps() if s.field == "from"}
    assert used <= table
    assert {pins.PYTHON, pins.POSTGRES_18, pins.REDIS_8, pins.TRIVY, pins.GO} <= used


def test_every_pinned_image_and_tool_is_in_the_documented_table() -> None:
    documented = (tree.ROOT / "docs" / "versions.md").read_text("utf-8")
    for name, value in vars(pins).items():
        if name.isupper():
            what = value.split("@sha256:")[1][:8] if "@" in value else value
            assert what in documented, f"{name} is not in docs/versions.md"


def test_uv_is_the_one_that_make_uses() -> None:
    makefile = (tree.ROOT / "Makefile").read_text("utf-8")
    assert f"UV_VERSION := {pins.UV}\n" in makefile


def test_every_cache_has_a_name_of_this_project(ci: Seen, publish: Seen) -> None:
    keys = {s.arguments["key"] for seen in (ci, publish) for s in seen.steps() if s.field == "cacheVolume"}
    assert "dispatchd-uv" in keys
    assert [key for key in keys if not key.startswith("dispatchd-")] == []


def test_ci_runs_every_step_that_needs_nothing_an_engine_lacks(ci: Seen) -> None:
    ran = [tuple(argv) for argv in ci.execution.argvs()]
    expected = [s for s in STEPS if not why_not_run(s) and s in steps_of(*Part, all_faults=True)]
    assert [step.name for step in expected if step.argv not in ran] == []
    assert {step.name for step in STEPS} - {step.name for step in expected} == {
        "singles",  # part of singles-all
        "cluster-tier",
        "gitops-tier",
        "image-check",
    }


def leaves_a_report(argv: list[str]) -> bool:
    """Whether its report is kept if it ends with another exit code than 0."""
    return argv[0] == "trivy" or argv[:3] == JUDGE


def test_in_ci_no_command_but_scans_may_fail_without_ending_what_comes_after(ci: Seen) -> None:
    any_code = [c.arguments["args"] for c in ci.execution.commands if c.arguments.get("expect", "SUCCESS") != "SUCCESS"]
    assert any_code == [argv for argv in ci.execution.argvs() if leaves_a_report(argv)]


def test_a_scan_that_could_not_look_is_not_run_and_ci_does_not_pass(engine: Engine) -> None:
    """Trivy without its database, and a scan that says so by its exit code."""

    def no_database(argv: list[str]) -> Outcome:
        if argv[0] == "trivy":
            return Outcome(1, stderr="FATAL\tFatal error\trun error: failed to download vulnerability DB\n")
        return Outcome(75) if argv[-1] == "go" else Outcome()

    with pytest.raises(CallFailed) as failure:
        engine.call("scan", execution=Execution(no_database))
    report = str(failure.value)
    assert re.search("^not run .* scan-go: it needs a database in the network$", report, re.M)
    for what in (*SERVICES, "the files with Trivy"):
        assert re.search(f"^not run .* scan of {what}: Trivy could not look: FATAL.*vulnerability DB$", report, re.M)
    assert re.search(r"^steps: \d+ passed, 5 not run$", report, re.M)


def test_what_trivy_finds_is_judged_like_any_other_finding(ci: Seen) -> None:
    """By the program that knows the exceptions, which is given exactly what Trivy has written."""
    judges = [c for c in ci.execution.commands if c.arguments["args"][-1].startswith("trivy-")]
    assert {" ".join(c.arguments["args"]) for c in judges} == {f"{' '.join(JUDGE)} trivy-{what}" for what in SCANNED}
    assert set(SCANNED) == {"files", *SERVICES}
    for judge in judges:
        [given] = [step.arguments for step in judge.chain() if step.field == "withFile"]
        assert given["path"] == f"/src/{FOUND}"
        [look] = [step.arguments["args"] for step in given["source"].chain() if step.field == "withExec"]
        assert look[0] == "trivy"
        assert look[look.index("--output") + 1] == given["source"].arguments["path"]
        assert look[look.index("--format") + 1] == "json"


def test_one_trivy_at_a_time_has_its_cache(ci: Seen) -> None:
    """A second one would fail after five seconds."""
    caches = [s.arguments for s in ci.steps() if s.field == "withMountedCache" and "trivy" in s.arguments["path"]]
    assert caches
    assert {given["sharing"] for given in caches} == {"LOCKED"}


def test_nothing_but_the_scan_of_the_history_depends_on_it(ci: Seen) -> None:
    """Otherwise every commit would make every result stale."""
    reading = [c for c in ci.execution.commands if any(step.field == "tree" for step in c.unfold())]
    histories = [each.argv for each in STEPS if each.history and not why_not_run(each)]
    assert {tuple(command.arguments["args"]) for command in reading} == set(histories)
    depths = {step.arguments["depth"] for c in reading for step in c.unfold() if step.field == "tree"}
    assert depths == {0}


def test_ci_publishes_nothing_and_sees_no_secret(ci: Seen) -> None:
    assert ci.execution.published == []
    fields = {step.field for step in ci.steps()}
    assert not fields & {"publish", "export", "exportImage", "setSecret", "secret", "withRegistryAuth"}
    assert [argv for argv in ci.execution.argvs() if argv[0] == "crane"] == []


def test_ci_fails_when_any_part_of_it_does_and_names_each(engine: Engine) -> None:
    """A step of every part, a scan with Trivy, and the smoke of an image; all else passes."""
    last_of_each_part = {part: each for part in Part for each in steps_of(part) if not why_not_run(each)}
    argvs = [each.argv for each in last_of_each_part.values()]
    execution = Execution(
        lambda given: Outcome(4) if tuple(given) in argvs or given[-1] == "trivy-files" else Outcome(), user="0"
    )
    with pytest.raises(CallFailed) as failure:
        engine.call("ci", execution=execution)
    report = str(failure.value)
    named = [each.name for part, each in last_of_each_part.items() if part is not Part.INTEGRATION]
    for name in (*named, "integration with PostgreSQL 18 and Redis 8", "scan of the files with Trivy"):
        assert re.search(rf"^failed .* {name}: exit code 4$", report, re.M), name
    assert re.search("^failed .* smoke of scheduler: the image of scheduler runs as '0', and has to", report, re.M)
    assert re.search(rf"^steps: \d+ passed, {len(argvs) + 4} failed, 3 not run$", report, re.M)


@pytest.mark.parametrize("name", NEVER_CACHED)
def test_what_depends_on_the_world_is_never_answered_from_the_cache(engine: Engine, name: str) -> None:
    policies = [s.arguments["policy"] for s in declared(engine.module)[name].chain() if s.field == "withCachePolicy"]
    assert policies == ["Never"]


def test_commands_that_look_at_the_world_run_anew_each_time(engine: Engine, publish: Seen) -> None:
    again = FakeTags({f"{repository(service)}:{SHA}": OLD for service in SERVICES}).execution()
    engine.call("publish", WANTED, execution=again)
    assert publish.runs_of()
    assert not publish.runs_of() & Seen(again).runs_of()
    asked = [command for command in publish.execution.commands if command.arguments["args"][0] in {"crane", "trivy"}]
    assert asked
    for command in asked:
        assert [s for s in command.chain() if s.field == "withEnvVariable" and s.arguments["name"] == RUN]


def admitted(path: Path) -> bool:
    """Whether an engine gets this file, by the rules of `.dockerignore`: the last pattern that matches counts."""
    ignored = False
    for pattern in IGNORE:
        places = [str(path), *(str(parent) for parent in path.parents if str(parent) != ".")]
        if any(re.fullmatch(_expression(pattern.removeprefix("!")), place) for place in places):
            ignored = not pattern.startswith("!")
    return not ignored


def _expression(pattern: str) -> str:
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}
    return "".join(parts.get(part, re.escape(part)) for part in re.split(r"(\*\*/|\*\*|\*)", pattern))


def test_the_engine_gets_every_file_of_the_repository_and_no_other() -> None:
    """All tracked files are read by some step."""
    assert [str(file) for file in tree.files() if not admitted(file)] == []
    others = (
        ".venv/bin/python",
        "infra/.venv/x",
        "app/dispatchd/__pycache__/a.pyc",
        "pipelines/sdk/x",
        ".env",
        "key.pem",
    )
    assert [path for path in others if admitted(Path(path))] == []


def test_the_allow_list_names_nothing_that_is_not_there_or_to_come() -> None:
    top = {file.parts[0] for file in tree.files()}
    assert set(ADMITTED) - top <= {"compose.yaml"}


def test_the_images_have_the_base_that_the_dockerfile_names() -> None:
    assert f"ARG BASE={pins.PYTHON}\n" in (tree.ROOT / "Dockerfile").read_text("utf-8")


TRIVY_REPORTS = [f"build/scans/trivy-{what}.sarif" for what in ("files", *SERVICES)]


def written(folder: Recipe) -> dict[str, str]:
    """The texts in a folder of evidence."""
    steps = [step.arguments for step in folder.chain() if step.field == "withNewFile"]
    return {given["path"]: given["contents"] for given in steps}


def left_behind(folder: Recipe) -> list[str]:
    """What a folder of evidence has taken from commands, as patterns."""
    taken = [step.arguments for step in folder.chain() if step.field == "withDirectory"]
    return sorted(f"{each['path']}/{pattern}" for each in taken for pattern in each["include"])


def test_the_evidence_is_the_report_of_ci_and_all_that_its_steps_leave(engine: Engine) -> None:
    execution = Execution()
    folder = engine.call("evidence", execution=execution)
    texts = written(folder)
    assert texts["outcome.txt"] == "passed\n"
    assert "3 not run" in texts["report.txt"]
    outputs = [output for each in steps_of(Part.BUILD, Part.SCAN) for output in each.outputs]
    assert left_behind(folder) == sorted([*outputs, *TRIVY_REPORTS])
    assert execution.published == []


def test_where_something_fails_there_is_evidence_too_and_it_says_so(engine: Engine) -> None:
    """The wheel can't be built, every scan finds something, and no image is as it must be."""
    broken = step("build").argv

    def outcome(argv: list[str]) -> Outcome:
        return Outcome(1, stderr="two things") if tuple(argv) == broken or argv[:3] == JUDGE else Outcome()

    folder = engine.call("evidence", execution=Execution(outcome, user="0"))
    texts = written(folder)
    assert texts["outcome.txt"] == "failed\n"
    assert re.search("^failed .* build: exit code 1$", texts["report.txt"], re.M)
    judged = [f"scan of {what}" for what in (*SERVICES, "the files with Trivy")]
    for name in (*(each.name for each in STEPS if is_scan(each)), *judged):
        assert re.search(rf"^failed .* {name}: exit code 1$", texts["report.txt"], re.M), name
        assert f"--- {name}\ntwo things\n" in texts["report.txt"]
    left = left_behind(folder)
    assert "dist/*" not in left
    assert {*TRIVY_REPORTS, "build/scans/code.sarif", "build/sbom/dispatchd.cdx.json"} <= set(left)


def test_the_evidence_of_the_scans_alone_has_every_report_of_a_scan(engine: Engine) -> None:
    execution = Execution()
    folder = engine.call("evidence", {"only_scans": True}, execution=execution)
    outputs = [output for each in steps_of(Part.SCAN) for output in each.outputs]
    assert left_behind(folder) == sorted([*outputs, *TRIVY_REPORTS])
    assert step("types").argv not in [tuple(argv) for argv in execution.argvs()]
