"""What a release promises is read from the code, the contract and gitops/ as they are."""

import re
from collections import UserDict
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypedDict, overload

import pytest

import dispatchd
from dispatchd.entrypoints import settings
from dispatchd.entrypoints.settings import Role, load_settings
from dispatchd_pipelines.releasing.surface.contract import contract_image, contract_names
from dispatchd_pipelines.releasing.surface.delivery import gitops_names, image_names
from dispatchd_pipelines.releasing.surface.python import describe, python_names
from dispatchd_pipelines.releasing.surface.settings import setting_names

ROOT = Path(__file__).parents[2]


class Colour(StrEnum):
    RED = "red"


class Options(TypedDict, total=False):
    size: int | None


@dataclass(frozen=True)
class Point:
    x: int
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def is_origin(self) -> bool:
        return self.x == 0

    def _hidden(self) -> None: ...


class Calls:
    limit = 3

    def __init__(self, target: str = "here", *, timeout: float | None = None) -> None:
        self._hidden = timeout

    @overload
    def get(self, key: int, /) -> int: ...
    @overload
    def get(self, key: str, /) -> str: ...
    def get(self, key: int | str, /) -> int | str:
        return key

    async def wait(self, *names: str, **options: int) -> None: ...

    @staticmethod
    def make() -> "Calls":
        return Calls()


class MoreCalls(Calls):
    def close(self) -> None: ...


def test_members_of_an_enum_and_of_a_typed_dictionary_are_listed() -> None:
    assert dict(describe("Colour", Colour)) == {"Colour": "class(StrEnum)", "Colour.RED": "'red'"}
    assert dict(describe("Options", Options))["Options.size"] == "int | None"


def test_every_kind_of_member_has_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for owner in (Point, Calls, MoreCalls):
        monkeypatch.setattr(owner, "__module__", "dispatchd.of_a_test")
    assert dict(describe("Point", Point)) == {
        "Point": "class()",
        "Point.x": "int",
        "Point.labels": "dict[str, str] = dict()",
        "Point.is_origin": "property -> bool",
    }
    calls = {
        "__init__": "(self, target: str = 'here', *, timeout: float | None = None) -> None",
        "get": "(self, key: int, /) -> int or (self, key: str, /) -> str",
        "limit": "3",
        "make": "staticmethod () -> Calls",
        "wait": "async (self, *names: str, **options: int) -> None",
    }
    assert dict(describe("Calls", Calls)) == {
        "Calls": "class()",
        **{f"Calls.{name}": text for name, text in calls.items()},
    }
    assert dict(describe("MoreCalls", MoreCalls))["MoreCalls.get"] == calls["get"]


def test_every_name_of_the_package_is_there_and_none_depends_on_the_process() -> None:
    names = python_names()
    assert {name for name in names if "." not in name} == set(dir(dispatchd))
    assert [text for text in names.values() if " at 0x" in text] == []
    assert names["Client.cancel"] == "(self, job: Job | str, *, call_timeout: Seconds | None = None) -> Job"
    assert names["Tls.ca_file"] == "FileName | None = None"


def test_every_variable_that_a_role_reads_is_there() -> None:
    names = setting_names()

    asked: set[str] = set()

    class Environ(UserDict[str, str]):
        def __getitem__(self, key: str) -> str:
            asked.add(key)
            return super().__getitem__(key)

        def __contains__(self, key: object) -> bool:
            asked.add(str(key))
            return super().__contains__(key)

    for role in Role:
        load_settings(role, Environ(DATABASE_URL="postgresql://db/jobs", REDIS_ADDRESS="cache:6379"))
    assert names.keys() == asked


def test_every_variable_in_the_source_of_the_settings_is_there() -> None:
    folder = Path(settings.__file__).parent
    source = "".join((folder / name).read_text("utf-8") for name in ("settings.py", "security_settings.py"))
    found = set(re.findall(r"""\bread\.(?!refuse|has)\w+\(\s*["']([A-Z_]+)["']""", source))
    assert {"REGION_EPOCH", "TLS_KEY_FILE", "SCHEDULER_POLL_INTERVAL"} <= found <= setting_names().keys()


def test_variables_have_their_types_and_defaults() -> None:
    names = setting_names()
    assert names["DATABASE_URL"] == "text, must be set"
    assert names["REDIS_PASSWORD"] == "text, no default"
    assert names["LEASE_DURATION"] == "duration from 1s to 24h, 30s"
    assert names["AUDIT_LOG_ENABLED"] == "boolean, true"
    assert names["INSTANCE_ID"] == "name of at most 200 characters, HOSTNAME"
    assert names["REGION_EPOCH"] == "whole number from 1 to 2147483647, no default"
    assert names["TLS_KEY_FILE"] == "file, no default"
    assert names["METRICS_PORT"].startswith("control-plane: whole number from 0 to 65535, 9100; scheduler: ")


def test_the_contract_is_read_from_its_image() -> None:
    names = contract_names(contract_image(ROOT))
    assert names["dispatchd.v1.Job.status"] == "dispatchd.v1.JobStatus = 4"
    assert names["dispatchd.v1.ConnectRequest.heartbeat"] == "oneof payload: dispatchd.v1.WorkerHeartbeat = 2"
    assert names["dispatchd.v1.ListExecutionsResponse.executions"] == "repeated dispatchd.v1.Execution = 1"
    assert names["dispatchd.v1.JobStatus.JOB_STATUS_CANCELED"] == "6"
    assert names["dispatchd.v1.WorkerService.Connect"] == (
        "rpc(stream dispatchd.v1.ConnectRequest) returns (stream dispatchd.v1.ConnectResponse)"
    )


def test_the_baseline_is_a_part_of_the_contract() -> None:
    baseline = contract_names((ROOT / "proto" / "dispatchd-v1-baseline.binpb").read_bytes())
    now = contract_names(contract_image(ROOT))
    assert baseline
    assert baseline.items() < now.items()


def test_images_and_folders_are_those_of_gitops() -> None:
    assert image_names(ROOT) == {f"dispatchd-{role}": "runs as user 65532" for role in Role}
    names = gitops_names(ROOT)
    assert names["gitops/base"] == "Deployment, Job, Kustomization, NetworkPolicy, Service, ServiceAccount"
    assert names["gitops/overlays/dev/images"] == "Component"
