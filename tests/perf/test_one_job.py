"""One job through a running installation: done if all three roles do their part, and a clear line if not."""

from pathlib import Path

import pytest

from dispatchd import DeadlineExceeded
from dispatchd.entrypoints.child_process import free_port
from dispatchd.entrypoints.installation import Installation
from dispatchd.entrypoints.settings import Role
from perf import one_job


async def test_a_job_needs_all_three_roles_to_be_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Installation(tmp_path, {}, postgres_settings={"fsync": "off"}) as installation:
        control_plane = installation.of_role(Role.CONTROL_PLANE)[0].grpc_address
        worker_gateway = installation.of_role(Role.WORKER_GATEWAY)[0].grpc_address
        assert await one_job.one_job(control_plane, worker_gateway) == "done, in attempt 2"
        [scheduler] = installation.of_role(Role.SCHEDULER)
        await scheduler.stop(5.0)
        monkeypatch.setattr(one_job, "TIMEOUT_S", 1.0)
        with pytest.raises(DeadlineExceeded, match="it is pending"):
            await one_job.one_job(control_plane, worker_gateway)


def test_an_installation_that_is_not_there_is_told_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_job, "TIMEOUT_S", 0.25)
    nowhere = f"127.0.0.1:{free_port()}"
    assert one_job.main([nowhere, nowhere]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_addresses_that_are_left_out_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert one_job.main(["localhost:8080"]) == 2
    assert capsys.readouterr().err == "perf.one_job: name a control-plane and a worker-gateway, each as HOST:PORT\n"
