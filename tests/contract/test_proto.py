"""The contract keeps the promise made to clients of earlier releases, and its stubs are those of the proto file."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet

from dispatchd.v1 import dispatchd_pb2

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"
BASELINE = PROTO / "dispatchd-v1-baseline.binpb"
STUBS = ROOT / "app" / "dispatchd" / "v1"
TOOLS = Path(sys.executable).parent
FIRST_NUMBER_OF_OURS = 20

Facts = set[tuple[object, ...]]


def run(*command: str | Path) -> "subprocess.CompletedProcess[str]":
    environ = {**os.environ, "PATH": f"{TOOLS}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False, timeout=60)


def baseline() -> FileDescriptorProto:
    image = FileDescriptorSet.FromString(BASELINE.read_bytes())
    [file] = [file for file in image.file if file.package == "dispatchd.v1"]
    return file


def ours() -> FileDescriptorProto:
    file = FileDescriptorProto()
    dispatchd_pb2.DESCRIPTOR.CopyToProto(file)
    return file


def messages(file: FileDescriptorProto) -> Iterator[tuple[str, DescriptorProto]]:
    """All messages with their full names, the entries of maps included."""
    waiting = [("", message) for message in file.message_type]
    while waiting:
        outer, message = waiting.pop()
        yield outer + message.name, message
        waiting += [(f"{outer}{message.name}.", nested) for nested in message.nested_type]


def facts(file: FileDescriptorProto) -> Facts:
    """Everything that a client of this contract relies on, each as one comparable fact."""
    found: Facts = {("package", file.package)}
    for name, message in messages(file):
        for field in message.field:
            oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None
            found.add(("field", name, field.name, field.number, field.type, field.label, field.type_name, oneof))
    for enum in file.enum_type:
        found |= {("enum value", enum.name, value.name, value.number) for value in enum.value}
    for service in file.service:
        for rpc in service.method:
            streams = (rpc.client_streaming, rpc.server_streaming)
            found.add(("rpc", service.name, rpc.name, rpc.input_type, rpc.output_type, *streams))
    return found


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the proto folder, to break."""
    return shutil.copytree(PROTO, tmp_path / "proto")


def change(copy: Path, pattern: str, replacement: str) -> None:
    file = copy / "dispatchd" / "v1" / "dispatchd.proto"
    text, count = re.subn(pattern, replacement, file.read_text(), count=1)
    assert count == 1
    file.write_text(text)


def test_stubs_are_those_of_the_proto_file(tmp_path: Path) -> None:
    generated = run(sys.executable, PROTO / "generate.py", tmp_path)
    assert generated.returncode == 0, generated.stderr
    fresh = {path.name: path.read_bytes() for path in (tmp_path / "dispatchd" / "v1").iterdir()}
    committed = {path.name: path.read_bytes() for path in STUBS.iterdir() if path.is_file()}
    committed.pop("__init__.py")
    assert sorted(committed) == sorted(fresh)
    stale = [name for name, content in fresh.items() if committed[name] != content]
    assert stale == [], "generate the stubs anew with `make proto`"


def test_buf_finds_nothing_to_complain_about() -> None:
    checked = run("buf", "lint", PROTO)
    assert checked.returncode == 0, checked.stdout


def test_buf_complains_about_a_name_that_breaks_the_style(copy: Path) -> None:
    change(copy, r"message SubmitJobRequest \{", "message submit_job_request {")
    assert run("buf", "lint", copy).returncode != 0


def test_old_clients_can_go_on_using_the_contract() -> None:
    checked = run("buf", "breaking", PROTO, "--against", BASELINE)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    ("pattern", "replacement", "complaint"),
    [
        (r"string job_type = 1;", "string job_type = 99;", "job_type"),
        (r"int32 max_attempts = 1;", "int64 max_attempts = 1;", "max_attempts"),
        (r"rpc CancelJob\(", "rpc AbortJob(", "CancelJob"),
        (r"JOB_STATUS_CANCELED = 6;", "JOB_STATUS_CANCELED = 7;", "JOB_STATUS_CANCELED"),
    ],
)
def test_a_change_that_breaks_old_clients_is_found(copy: Path, pattern: str, replacement: str, complaint: str) -> None:
    change(copy, pattern, replacement)
    checked = run("buf", "breaking", copy, "--against", BASELINE)
    assert checked.returncode != 0
    assert complaint in checked.stdout


def test_every_fact_of_the_baseline_still_holds() -> None:
    assert facts(baseline()) - facts(ours()) == set()


def test_additions_leave_the_low_numbers_to_later_releases_of_the_baseline() -> None:
    fixed = dict(messages(baseline()))
    added = [
        f"{name}.{field.name} = {field.number}"
        for name, message in messages(ours())
        if name in fixed
        for field in message.field
        if field.number not in {known.number for known in fixed[name].field} and field.number < FIRST_NUMBER_OF_OURS
    ]
    assert added == []


def test_no_enum_of_the_baseline_got_a_new_value() -> None:
    fixed = {enum.name: [value.name for value in enum.value] for enum in baseline().enum_type}
    now = {enum.name: [value.name for value in enum.value] for enum in ours().enum_type if enum.name in fixed}
    assert now == fixed
