"""What `emit` writes is read back as it was by three YAML readers: PyYAML, ruamel.yaml, and that of Kubernetes."""

from io import StringIO
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from dispatchd_infra import emit
from dispatchd_infra.objects import Object
from kubectl import kustomize, read_as_kubernetes

# Each is a number, a truth value, a date, nothing or syntax to at least one reader of YAML, unless it is quoted.
_AMBIGUOUS = (
    "", " ", "~", "null", "Null", "true", "True", "on", "off", "yes", "No", "y", "n", "1e3", "12e5034", "1.E309",
    "0o17", "017", "0x1F", "1_000", "+1", "-1", ".5", "1.", ".inf", "-.INF", ".NaN", "1:30", "2026-11-28",
    "2026-11-28T10:00:00Z", "=", "<<", "!tag", "&anchor", "*alias",
    "# no comment", "a: b", "a #b", "- a", "? a", "[a]", "{a}", "%YAML", "---",
    "...", "@a", "`a`", "'", '"', "\\", "a\n", "\na", "a\n\n", " a\nb ", "a\u2028b", "\ufeff",
    "\u00e9", "\U0001f600", "a" * 300 + " b", "sha256:" + "0" * 64, "30s", "512Mi", "250m", "1e3\n",
)  # fmt: skip

_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n"), max_size=40)
_WRITTEN_BY_PEOPLE = st.text("0123456789eEoOxXabnyNfl+-._: #\n'\"", max_size=12)
_STRING = st.sampled_from(_AMBIGUOUS) | _WRITTEN_BY_PEOPLE | _TEXT


def _config_map(strings: list[str]) -> Object:
    data = {f"key-{place:03}": value for place, value in enumerate(strings)}
    annotations = {f"example.org/{key}": value for key, value in data.items()}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "strings", "annotations": annotations},
        "data": data,
    }


@given(st.lists(_STRING, min_size=1, max_size=20))
def test_two_yaml_readers_read_every_string_back(strings: list[str]) -> None:
    written = _config_map(strings)

    text = emit.document(written, "test")

    assert yaml.safe_load(text) == written
    assert YAML(typ="safe", pure=True).load(StringIO(text)) == written


@settings(max_examples=15)
@given(strings=st.lists(_STRING, min_size=40, max_size=80))
def test_kustomize_and_kubernetes_read_every_string_back(
    tmp_path_factory: pytest.TempPathFactory, strings: list[str]
) -> None:
    _assert_read_back(tmp_path_factory.mktemp("kustomize"), strings)


def test_kustomize_and_kubernetes_read_every_ambiguous_word_back(tmp_path: Path) -> None:
    _assert_read_back(tmp_path, list(_AMBIGUOUS))


def _assert_read_back(folder: Path, strings: list[str]) -> None:
    written = _config_map(strings)
    file = folder / "strings.yaml"
    file.write_text(emit.document(written, "test"), encoding="utf-8")
    kustomization: Object = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [file.name],
    }
    (folder / "kustomization.yaml").write_text(emit.document(kustomization, "test"), encoding="utf-8")

    assert kustomize(folder) == [written]
    assert read_as_kubernetes(file)["data"] == written["data"]


@pytest.mark.parametrize("character", ["\0", "\t", "\r", "\x1b", "\x7f", "\x85"])
def test_control_characters_are_refused(character: str) -> None:
    with pytest.raises(ValueError, match="control characters"):
        emit.document(_config_map([f"a{character}b"]), "test")


def test_keys_are_sorted_after_the_four_that_say_what_an_object_is() -> None:
    text = emit.document({"spec": {"b": 1, "a": 2}, "data": {}, "metadata": {"name": "x"}, "kind": "K"}, "test")

    assert text == emit.header("test") + "kind: K\nmetadata:\n  name: x\nspec:\n  a: 2\n  b: 1\ndata: {}\n"


def test_an_object_that_stands_twice_is_written_twice_without_an_anchor() -> None:
    shared = {"cpu": "1"}

    text = emit.document({"kind": "K", "spec": {"limits": shared, "requests": shared}}, "test")

    assert text.count("cpu") == 2
    assert "&" not in text


def test_lists_are_indented_and_lines_are_never_folded() -> None:
    line = "word " * 200 + "end"

    text = emit.document({"kind": "K", "spec": {"args": [line]}}, "test")

    assert text == emit.header("test") + f'kind: K\nspec:\n  args:\n    - "{line}"\n'


def test_two_objects_of_one_kind_and_name_are_refused() -> None:
    twin = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}

    with pytest.raises(ValueError, match="two objects would be written to configmap-x"):
        emit.files([twin, twin], "test")
