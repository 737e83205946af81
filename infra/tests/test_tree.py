"""The provider, started as Pulumi starts it and spoken to as the engine does."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format, struct_pb2
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc
from pulumi.runtime.rpc import UNKNOWN

from dispatchd_infra.emit import header

INFRA = Path(__file__).parents[1]
URN = "urn:pulumi:dev::dispatchd-gitops::gitops:index:Tree::gitops/overlays/dev"
ONE = header("dev") + "kind: ConfigMap\nmetadata:\n  name: one\n"
TWO = header("dev") + "kind: ConfigMap\nmetadata:\n  name: two\n"
SECRET = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270"}
"""What marks a value as secret on the wire."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    (root / "infra" / "gitops").mkdir(parents=True)
    return root


@pytest.fixture(scope="module")
def engine(repository: Path) -> Iterator[provider_pb2_grpc.ResourceProviderStub]:
    """The provider, which runs in the folder of the program, as the engine lets it."""
    executable = INFRA / "plugins" / "pulumi-resource-gitops"
    with subprocess.Popen(
        [executable, "127.0.0.1:1"], cwd=repository / "infra" / "gitops", stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        with grpc.insecure_channel(f"127.0.0.1:{process.stdout.readline().strip()}") as channel:
            yield provider_pb2_grpc.ResourceProviderStub(channel)
        process.terminate()


@pytest.fixture
def place(repository: Path, request: pytest.FixtureRequest) -> Path:
    """A folder of this test's own, which isn't there yet."""
    name: str = request.node.name
    return repository / "gitops" / name.replace("/", "_")


def inputs(place: Path, files: dict[str, Any], **more: Any) -> struct_pb2.Struct:
    return json_format.ParseDict(
        {"root": "../..", "path": f"gitops/{place.name}", "files": files, "preserve": ["images/*"], **more},
        struct_pb2.Struct(),
    )


def check(engine: Any, news: struct_pb2.Struct) -> list[str]:
    response = engine.Check(provider_pb2.CheckRequest(urn=URN, news=news))
    assert all(each.property == "" for each in response.failures)
    return [each.reason for each in response.failures]


def create(engine: Any, news: struct_pb2.Struct, *, preview: bool = False) -> Any:
    return engine.Create(provider_pb2.CreateRequest(urn=URN, properties=news, preview=preview))


def read(engine: Any, state: struct_pb2.Struct, wanted: struct_pb2.Struct) -> Any:
    return engine.Read(provider_pb2.ReadRequest(id="tree", urn=URN, properties=state, inputs=wanted))


def diff(engine: Any, olds: struct_pb2.Struct, news: struct_pb2.Struct) -> Any:
    return engine.Diff(provider_pb2.DiffRequest(id="tree", urn=URN, olds=olds, news=news))


def test_a_preview_writes_nothing(engine: Any, place: Path) -> None:
    wanted = inputs(place, {"one.yaml": ONE})

    created = create(engine, wanted, preview=True)

    assert created.properties == wanted
    assert not place.exists()


def test_a_new_folder_is_written_read_and_unchanged(engine: Any, place: Path) -> None:
    wanted = inputs(place, {"one.yaml": ONE, "below/two.yaml": TWO})

    assert check(engine, wanted) == []
    created = create(engine, wanted)

    assert created.id == f"gitops/{place.name}"
    assert (place / "below" / "two.yaml").read_text() == TWO
    state = read(engine, created.properties, wanted)
    assert (state.properties, state.inputs) == (wanted, wanted)
    assert diff(engine, state.properties, wanted).changes == provider_pb2.DiffResponse.DIFF_NONE


def test_a_folder_that_is_there_is_adopted(engine: Any, place: Path) -> None:
    place.mkdir(parents=True)
    (place / "one.yaml").write_text(ONE + "data: {}\n")
    (place / "images").mkdir()
    (place / "images" / "kustomization.yaml").write_text("images: []\n")
    wanted = inputs(place, {"one.yaml": ONE})

    assert check(engine, wanted) == []
    create(engine, wanted)

    assert (place / "one.yaml").read_text() == ONE
    assert (place / "images" / "kustomization.yaml").read_text() == "images: []\n"


def test_an_edited_a_missing_and_an_added_file_are_seen_and_an_update_restores_them(engine: Any, place: Path) -> None:
    wanted = inputs(place, {"one.yaml": ONE, "two.yaml": TWO})
    create(engine, wanted)
    (place / "one.yaml").write_text(ONE + "data: {}\n")
    (place / "two.yaml").rename(place / "three.yaml")

    state = read(engine, wanted, wanted).properties
    found = diff(engine, state, wanted)
    preview = engine.Update(provider_pb2.UpdateRequest(id="tree", urn=URN, olds=state, news=wanted, preview=True))

    kinds = provider_pb2.PropertyDiff.Kind
    assert {key: each.kind for key, each in found.detailedDiff.items()} == {
        'files["one.yaml"]': kinds.UPDATE,
        'files["three.yaml"]': kinds.DELETE,
        'files["two.yaml"]': kinds.ADD,
    }
    assert list(found.replaces) == []
    assert preview.properties == wanted
    assert not (place / "two.yaml").exists()

    engine.Update(provider_pb2.UpdateRequest(id="tree", urn=URN, olds=state, news=wanted))

    assert read(engine, wanted, wanted).properties == wanted


def test_a_folder_that_moves_is_first_removed_from_its_old_place(engine: Any, place: Path) -> None:
    found = diff(engine, inputs(place, {}), inputs(place / "elsewhere", {}))

    assert list(found.replaces) == ["path"]
    assert found.deleteBeforeReplace


def test_a_folder_that_is_gone_reads_as_gone(engine: Any, place: Path) -> None:
    wanted = inputs(place, {"one.yaml": ONE})

    assert read(engine, wanted, wanted).id == ""


def test_deleting_leaves_what_was_not_generated(engine: Any, place: Path) -> None:
    wanted = inputs(place, {"one.yaml": ONE})
    create(engine, wanted)
    (place / "images").mkdir()
    (place / "images" / "kustomization.yaml").write_text("images: []\n")

    engine.Delete(provider_pb2.DeleteRequest(id="tree", urn=URN, properties=wanted))

    assert sorted(each.name for each in place.rglob("*")) == ["images", "kustomization.yaml"]


def test_a_stray_file_is_refused_with_its_path(engine: Any, place: Path) -> None:
    place.mkdir(parents=True)
    (place / "notes.yaml").write_text("mine: true\n")
    wanted = inputs(place, {"one.yaml": ONE})

    (reason,) = check(engine, wanted)
    with pytest.raises(grpc.RpcError, match="was not generated"):
        create(engine, wanted)

    assert reason.startswith(f"gitops/{place.name}/notes.yaml: this file was not generated")
    assert [each.name for each in place.iterdir()] == ["notes.yaml"]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"root": "/"}, "root: '/' would be another place on each machine"),
        ({"root": "nowhere"}, "no such folder"),
        ({"root": None}, "root: a text is needed"),
        ({"path": "../outside"}, "'../outside' is not a plain path"),
        ({"path": "/outside"}, "'/outside' is not a plain path"),
        ({"files": {"../one.yaml": ONE}}, "'../one.yaml' is not a plain path"),
        ({"files": {"one.yaml": header("dev") + "a: ["}}, "not one document of YAML"),
        ({"files": {"one.yaml": ONE, "two.yaml": ONE}}, "ConfigMap one is already in"),
        ({"files": {"one.yaml": "kind: ConfigMap\n"}}, "doesn't begin with the header"),
        ({"files": {"one.yaml": header("dev") + "kind: Secret\ndata: {a: Yg==}\n"}}, "Secret with data"),
        ({"files": {"one.yaml": {**SECRET, "value": ONE}}}, "marked as secret"),
        ({"files": {**SECRET, "value": {"one.yaml": ONE}}}, "marked as secret"),
        ({"files": {"one.yaml": UNKNOWN}}, "known only after other resources"),
        ({"files": {"one.yaml": 1}}, "files[one.yaml]: a text is needed"),
        ({"files": [ONE]}, "files must be a mapping"),
    ],
)
def test_check_refuses_what_may_not_be_written(engine: Any, place: Path, more: dict[str, Any], reason: str) -> None:
    (found,) = check(engine, inputs(place, **{"files": {}, **more}))

    assert reason in found
