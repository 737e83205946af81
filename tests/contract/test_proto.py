"""What the checks of the contract find, and that it keeps the promise made to clients of earlier releases.

The checks themselves, on the contract as it is, are `make proto-check`.
"""

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


@pytest.fixture
def stubs(tmp_path: Path) -> Path:
    """A copy of the committed stubs, to damage."""
    return shutil.copytree(STUBS, tmp_path / "dispatchd" / "v1", ignore=shutil.ignore_patterns("__pycache__"))


@pytest.mark.parametrize("name", ["dispatchd_pb2.py", "dispatchd_pb2.pyi", "dispatchd_pb2_grpc.py"])
def test_a_stub_that_is_not_fresh_is_named_and_left_as_it_is(stubs: Path, tmp_path: Path, name: str) -> None:
    with (stubs / name).open("a") as stub:
        stub.write("# by hand\n")
    checked = run(sys.executable, PROTO / "generate.py", "--check", tmp_path)
    assert checked.returncode == 1
    assert f"not what the contract gives: {name}; generate the stubs anew with `make proto`" in checked.stderr
    assert (stubs / name).read_text().endswith("# by hand\n")


def test_a_stub_that_is_missing_and_one_too_many_are_named(stubs: Path, tmp_path: Path) -> None:
    (stubs / "dispatchd_pb2.pyi").rename(stubs / "earlier_pb2.pyi")
    checked = run(sys.executable, PROTO / "generate.py", "--check", tmp_path)
    assert checked.returncode == 1
    assert "dispatchd_pb2.pyi, earlier_pb2.pyi;" in checked.stderr


def test_buf_complains_about_a_name_that_breaks_the_style(copy: Path) -> None:
    change(copy, r"message SubmitJobRequest \{", "message submit_job_request {")
    assert run("buf", "lint", copy).returncode != 0


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
