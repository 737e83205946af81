"""The native runner: what it starts and when, what it shows, and what it makes of the end of a command."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dispatchd_pipelines import native
from dispatchd_pipelines.machine import Machine
from dispatchd_pipelines.report import Outcome, Result
from dispatchd_pipelines.steps import ImageRole, Needs, Step
from tree import ROOT

SOURCES = ROOT / "pipelines" / "src"


def python(name: str, code: str, *, alone: bool = False, needs: Needs = Needs.NOTHING) -> Step:
    return Step(name, ("python", "-c", code), ("**",), ImageRole.PIPELINES, alone=alone, needs=needs)


def run(tmp_path: Path, *steps: Step) -> tuple[list[Result], list[str]]:
    """The results, and the progress that was shown."""
    said: list[str] = []
    return native.run(steps, Machine(tmp_path, tools=ROOT), said.append), said


def outcomes(results: Sequence[Result]) -> dict[str, Outcome]:
    return {result.step: result.outcome for result in results}


def test_a_step_that_fails_fails_the_run_and_stops_what_would_come_after_it(tmp_path: Path) -> None:
    touch = "from pathlib import Path; Path('ran').touch()"
    results, said = run(
        tmp_path,
        python("good", "pass", alone=True),
        python("bad", "import sys; sys.exit(3)", alone=True),
        python("later", touch, alone=True),
    )
    assert outcomes(results) == {"good": Outcome.PASSED, "bad": Outcome.FAILED, "later": Outcome.NOT_RUN}
    assert [result.reason for result in results] == ["", "exit code 3", "bad failed before"]
    assert native.exit_code(results) == 1
    assert not (tmp_path / "ran").exists()
    assert said[0] == "good: python -c pass"
    assert [line.partition(" after ")[0] for line in said if " after " in line] == ["good: passed", "bad: failed"]


def test_neighbours_all_run_although_one_fails_and_only_that_one_shows_what_it_printed(tmp_path: Path) -> None:
    results, said = run(
        tmp_path,
        python("bad", "import sys; sys.stderr.write('the reason\\n'); sys.exit(1)"),
        python("good", "print('nothing of interest')"),
        python("good too", "print('nothing of interest')"),
    )
    assert list(outcomes(results).values()) == [Outcome.FAILED, Outcome.PASSED, Outcome.PASSED]
    assert "the reason" in said
    assert "nothing of interest" not in said


def test_two_neighbours_run_at_once(tmp_path: Path) -> None:
    """Each waits for the other to have begun."""
    meet = "import time; from pathlib import Path; Path('{own}').touch()\n"
    meet += "while not Path('{other}').exists(): time.sleep(0.01)"
    results, _ = run(
        tmp_path, python("a", meet.format(own="a", other="b")), python("b", meet.format(own="b", other="a"))
    )
    assert [str(result.outcome) for result in results] == ["passed", "passed"]


def test_never_more_than_two_run_at_once(tmp_path: Path) -> None:
    count = "import time; from pathlib import Path; own = Path('running-{name}'); own.touch(); time.sleep(0.1); "
    count += "many = len(list(Path().glob('running-*'))); own.unlink(); assert many <= 2"
    results, _ = run(tmp_path, *(python(name, count.format(name=name)) for name in "abcdef"))
    assert set(outcomes(results).values()) == {Outcome.PASSED}


def test_nothing_runs_beside_a_step_that_wants_the_machine_for_itself(tmp_path: Path) -> None:
    enter = "import sys; from pathlib import Path; Path('{name}').touch(); "
    only_after = enter + "sys.exit(not Path('{before}').exists() or Path('{after}').exists())"
    results, _ = run(
        tmp_path,
        python("a", enter.format(name="a")),
        python("alone", only_after.format(name="alone", before="a", after="b"), alone=True),
        python("b", enter.format(name="b")),
    )
    assert [str(result.outcome) for result in results] == ["passed", "passed", "passed"]


def test_a_single_step_prints_as_it_goes_and_progress_stays_off_standard_output(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
from dispatchd_pipelines import native
from dispatchd_pipelines.machine import Machine
from dispatchd_pipelines.steps import ImageRole, Step
step = Step("hello", ("python", "-c", "print('kind: Deployment')"), (), ImageRole.PIPELINES)
native.run([step], Machine(Path({str(tmp_path)!r}), tools=Path({str(ROOT)!r})), native.say)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(SOURCES)}, capture_output=True, text=True
    )
    assert done.stdout == "kind: Deployment\n"
    assert done.stderr.startswith("hello: python -c ")
    assert "hello: passed after " in done.stderr


def test_what_pytest_said_last_stands_in_the_report(tmp_path: Path) -> None:
    ends = "print('....'); print('=== 3 passed, 1 skipped in 0.12s ===')"
    results, _ = run(tmp_path, python("suite", ends), python("other", "print('All checks passed!')"))
    assert [result.reason for result in results] == ["3 passed, 1 skipped in 0.12s", ""]


@pytest.mark.parametrize("needs", [Needs.NETWORK_DATABASE, Needs.SERVICES])
def test_a_command_that_can_not_reach_what_it_needs_is_not_run_and_never_green(
    tmp_path: Path, needs: Needs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://somewhere")
    monkeypatch.setenv("REDIS_ADDRESS", "somewhere:6379")
    results, _ = run(tmp_path, python("scan", "import sys; sys.exit(75)", needs=needs))
    assert results[0].outcome is Outcome.NOT_RUN
    assert results[0].reason == f"it needs {needs}"
    assert native.exit_code(results) == 75


def test_a_command_that_needs_nothing_has_no_excuse(tmp_path: Path) -> None:
    results, _ = run(tmp_path, python("scan", "import sys; sys.exit(75)"))
    assert results[0].outcome is Outcome.FAILED


def test_a_step_whose_needs_are_not_met_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    touch = "from pathlib import Path; Path('ran').touch()"
    for needs in set(Needs) - {Needs.NOTHING, Needs.NETWORK_DATABASE}:
        results, said = run(tmp_path, python("far", touch, needs=needs))
        assert [(result.outcome, result.reason) for result in results] == [(Outcome.NOT_RUN, f"it needs {needs}")]
        assert said == [f"far: not run: it needs {needs}"]
    assert not (tmp_path / "ran").exists()


def test_a_step_over_the_history_is_not_run_on_a_part_of_it(tmp_path: Path) -> None:
    def git(*arguments: str | Path) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.example", *arguments], check=True)

    step = replace(python("secrets", "pass"), history=True)
    assert "the history in .git" in run(tmp_path, step)[0][0].reason

    server, shallow = tmp_path / "server", tmp_path / "shallow"
    git("init", "--quiet", server)
    for message in ("one", "two"):
        git("-C", server, "commit", "--quiet", "--allow-empty", "--message", message)
    git("clone", "--quiet", "--depth=1", server.as_uri(), shallow)
    [result] = run(shallow, step)[0]
    assert (result.outcome, "git fetch --unshallow" in result.reason) == (Outcome.NOT_RUN, True)

    git("-C", shallow, "fetch", "--quiet", "--unshallow")
    assert outcomes(run(shallow, step)[0]) == {"secrets": Outcome.PASSED}


def test_a_run_with_steps_that_were_not_run_passes_if_others_did() -> None:
    passed, not_run = Result("a", Outcome.PASSED), Result("b", Outcome.NOT_RUN)
    failed = Result("c", Outcome.FAILED)
    assert native.exit_code([passed, not_run]) == 0
    assert native.exit_code([not_run]) == 75
    assert native.exit_code([passed, not_run, failed]) == 1


def test_an_executable_that_is_not_there_fails_the_step_and_says_how_to_get_it(tmp_path: Path) -> None:
    step = replace(python("gone", ""), argv=("no-such-program",))
    results, said = run(tmp_path, step)
    assert results[0].outcome is Outcome.FAILED
    assert results[0].reason.startswith("there is no `no-such-program`: `make setup infra-setup pipelines-setup ")
    assert said[-1] == f"gone: failed: {results[0].reason}"


def test_a_step_without_its_environment_fails_although_the_path_has_such_a_program(tmp_path: Path) -> None:
    step = python("check", "pass")
    [result] = native.run([step], Machine(tmp_path), lambda line: None)
    assert result.outcome is Outcome.FAILED
    assert result.reason.startswith("there is no `pipelines/.venv`: `make setup infra-setup pipelines-setup ")


def test_commands_get_the_variables_of_their_step_and_none_of_the_runners_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SOURCES))
    monkeypatch.setenv("FUZZ_MESSAGES", "7")
    machine = Machine(tmp_path, tools=ROOT)
    plain = machine.environment(python("plain", ""))
    assert "PYTHONPATH" not in plain
    assert plain["FUZZ_MESSAGES"] == "7"
    own = machine.environment(replace(python("own", ""), environment={"PYTHONPATH": "tests"}))
    assert own["PYTHONPATH"] == "tests"


def test_an_unknown_step_is_answered_with_the_choices_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert native.main(["ci", "lint", "nope"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("native ci: no step is called nope; the steps are: types, ")


@pytest.mark.parametrize(("begun", "never"), [("a", ""), ("ab", "c")], ids=["alone", "neighbours"])
def test_a_run_that_is_told_to_end_ends_its_commands_and_begins_no_other(
    tmp_path: Path, begun: str, never: str
) -> None:
    forever = "import os, time; from pathlib import Path; Path('{name}').write_text(str(os.getpid())); time.sleep(600)"
    script = f"""
import signal
from pathlib import Path
from dispatchd_pipelines import native
from dispatchd_pipelines.machine import Machine
from dispatchd_pipelines.steps import ImageRole, Step
signal.signal(signal.SIGTERM, native._stop)
names = {begun + never!r}
steps = [Step(name, ("python", "-c", {forever!r}.format(name=name)), (), ImageRole.PIPELINES) for name in names]
native.run(steps, Machine(Path({str(tmp_path)!r}), tools=Path({str(ROOT)!r})), native.say)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(SOURCES)}, stderr=subprocess.PIPE
    ) as runner:
        while not all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in begun):
            assert runner.poll() is None
        runner.send_signal(signal.SIGTERM)
        runner.communicate(timeout=60)
    assert runner.returncode == 128 + signal.SIGTERM
    assert not any((tmp_path / name).exists() for name in never)
    for name in begun:
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / name).read_text()), 0)


def test_a_reader_who_has_had_enough_ends_the_run_without_a_word() -> None:
    script = """
import sys
from dispatchd_pipelines import native
from dispatchd_pipelines.steps import ImageRole, Step
endless = Step("endless", ("python", "-c", "while True: print('kind: Deployment')"), (), ImageRole.PIPELINES)
native.select = lambda names: [endless]
sys.exit(native.main(["ci", "endless"]))
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as runner:
        assert runner.stdout is not None
        assert runner.stderr is not None
        assert runner.stdout.readline() == b"kind: Deployment\n"
        runner.stdout.close()
        said = runner.stderr.read().decode()
    assert runner.returncode == 128 + signal.SIGPIPE
    # The last words are those of the command itself, which was told to end.
    assert "native.py" not in said
