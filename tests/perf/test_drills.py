"""A drill makes the fault that it names, and nothing that was not run is written or called well."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
from click.testing import CliRunner

from faults.faults import FAULTS
from perf import drills

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a drill keeps its ledgers while it runs."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_the_list_has_every_single_fault_and_what_it_does() -> None:
    listed = CliRunner().invoke(drills.main, ["--list"])
    assert listed.exit_code == 0
    lines = [line.split(maxsplit=1) for line in listed.stdout.splitlines()]
    assert lines == [[name, FAULTS[name].says] for name in sorted(FAULTS)]


def test_an_unknown_name_lists_the_drills_and_writes_nothing(tmp_path: Path) -> None:
    done = CliRunner().invoke(drills.main, ["--name", "kill_everything", "--json", str(tmp_path / "drill.json")])
    assert done.exit_code == drills.NOT_RUN
    assert "kill_everything" in done.stderr
    assert all(name in done.stderr for name in FAULTS)
    assert list(tmp_path.iterdir()) == []


def test_a_drill_makes_its_fault_under_load_and_writes_what_came_of_it(tmp_path: Path) -> None:
    file = tmp_path / "drill.json"
    done = subprocess.run(
        [sys.executable, "-m", "perf.drills", "--name", "kill_control_plane", "--seed", "7", "--json", file],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=110,
    )
    found = json.loads(file.read_text())
    assert (found["drill"], found["seed"], found["faults"]) == ("kill_control_plane", 7, ["kill_control_plane"])
    assert found["counts"]["faults"] == 1
    assert found["rules"]["acked_jobs_end"] > 0
    assert found["violations"] == []
    # How soon it recovered is up to this machine, and decides only what the drill says of it.
    assert done.returncode == (0 if found["passed"] else drills.NOT_KEPT), done.stderr


@pytest.mark.parametrize(("code", "is_kept"), [(0, True), (1, False)])
def test_the_exit_code_says_whether_the_promises_were_kept(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, code: int, is_kept: bool
) -> None:
    monkeypatch.setattr(drills, "run_faults", _suite(code, rounds=1))
    done = CliRunner().invoke(drills.main, ["--name", "kill_gateway", "--json", str(tmp_path / "drill.json")])
    assert done.exit_code == (0 if is_kept else drills.NOT_KEPT)
    assert json.loads((tmp_path / "drill.json").read_text())["passed"] is is_kept
    # Of what went wrong, the ledgers tell more.
    assert len(list(scratch.iterdir())) == (0 if is_kept else 1)


def test_a_fault_that_this_machine_cannot_make_is_not_called_well(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drills, "run_faults", _suite(0, rounds=0))
    done = CliRunner().invoke(drills.main, ["--name", "kill_gateway", "--json", str(tmp_path / "drill.json")])
    assert done.exit_code == drills.NOT_RUN
    assert done.stderr == "kill_gateway: not run: this machine can't make this fault\n"
    assert (list(tmp_path.iterdir()), list(scratch.iterdir())) == ([scratch], [])


def _suite(code: int, *, rounds: int) -> Callable[..., Coroutine[None, None, int]]:
    """What the fault suite leaves after a run that ends with this code."""

    async def run(kind: str, *, folder: Path, **_: object) -> int:
        summary = {"kind": kind, "rounds": rounds, "left_out": []}
        (folder / f"{kind}.json").write_text(json.dumps(summary))
        return code

    return run
