"""A load run counts what really happened, says what was missed, and writes nothing from a run that failed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from perf.load import __main__ as command
from perf.load import run
from perf.load.profiles import PROFILES, Profile

from dispatchd.entrypoints.child_process import free_port
from dispatchd.entrypoints.installation import Installation
from dispatchd.entrypoints.settings import Role

REPOSITORY = Path(__file__).parents[2]


def second(thresholds: dict[str, list[str]]) -> Profile:
    """Twenty jobs."""
    return Profile("", 20, [{"target": 20, "duration": "1s"}], 10, thresholds)


def test_smoke_starts_an_installation_and_sees_every_job_done(tmp_path: Path) -> None:
    file = tmp_path / "load.json"
    done = subprocess.run(
        [sys.executable, "-m", "perf.load", "--profile", "smoke", "--json", file, "--data-dir", tmp_path],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=110,
    )
    found = json.loads(file.read_text())
    assert found["done"] == found["acknowledged"] > 0
    assert found["failed"] == 0
    assert 0 < found["compared"] == found["get"]["count"]
    assert found["acknowledged"] == found["submit"]["count"]
    assert {each["metric"] for each in found["thresholds"]} == set(PROFILES["smoke"].thresholds)
    # How quick the answers were is up to this machine, and decides only what the run says of them.
    assert done.returncode == (0 if found["passed"] else command.THRESHOLD_MISSED), done.stderr
    assert list(tmp_path.iterdir()) == [file], "what a run leaves is only what was asked for"


async def test_a_missed_threshold_and_a_lost_job_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "DONE_WITHIN_S", 0.5)
    async with Installation(tmp_path, {}, postgres_settings={"fsync": "off"}) as installation:
        control_plane = installation.of_role(Role.CONTROL_PLANE)[0].grpc_address
        worker_gateway = installation.of_role(Role.WORKER_GATEWAY)[0].grpc_address
        impossible = {"grpc_req_duration{rpc:SubmitJob}": ["p(95)<0.001"], "failed": ["rate==0"]}
        slow = await run.load(second(impossible), control_plane, worker_gateway)
        assert slow.missed == ["grpc_req_duration{rpc:SubmitJob} p(95)<0.001"]
        assert slow.done == slow.acknowledged
        nobody = f"127.0.0.1:{free_port()}"
        lost = await run.load(second({}), control_plane, nobody)
        assert lost.done == 0 < lost.acknowledged
        assert lost.missed == [f"{lost.acknowledged} acknowledged jobs were not done within 0.5 s"]


async def test_an_arrival_that_gets_no_connection_has_failed() -> None:
    metrics = await run.submit(second({"failed": ["rate==0"]}), f"127.0.0.1:{free_port()}", "load-none.noop")
    assert metrics["failed"]["values"]["passes"] == metrics["iterations"]["values"]["count"] > 0
    assert metrics["failed"]["thresholds"]["rate==0"] == {"ok": False}


def test_an_unknown_profile_names_the_choices() -> None:
    done = CliRunner().invoke(command.main, ["--profile", "huge"])
    assert done.exit_code == command.RUN_FAILED
    assert "'huge' is not one of 'smoke', 'average', 'stress'" in done.stderr


def test_half_an_installation_is_refused() -> None:
    done = CliRunner().invoke(command.main, ["--profile", "smoke", "--control-plane", "localhost:8080"])
    assert done.exit_code == command.RUN_FAILED
    assert "name both, or neither" in done.stderr


def test_an_installation_that_is_not_there_is_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "PROFILES", {"smoke": second({})})
    nobody = f"127.0.0.1:{free_port()}"
    done = CliRunner().invoke(
        command.main,
        [
            *("--profile", "smoke", "--control-plane", nobody, "--worker-gateway", nobody),
            *("--json", str(tmp_path / "load.json"), "--data-dir", str(tmp_path)),
        ],
    )
    assert done.exit_code == command.RUN_FAILED
    assert "no call of SubmitJob was answered" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES.keys())
def test_every_profile_bounds_failures_and_the_time_to_an_answer(profile: Profile) -> None:
    assert profile.thresholds["failed"]
    assert profile.thresholds["grpc_req_duration{rpc:SubmitJob}"]
