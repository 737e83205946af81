"""What may not be in a generated folder is refused with the file and a reason."""

import pytest

from dispatchd_infra.contents import mistakes_in
from dispatchd_infra.emit import Folder, document, header

CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}}


def test_objects_and_patches_of_them_are_accepted() -> None:
    text = document(CONFIG_MAP, "base")

    folder = Folder(
        "gitops/base",
        {
            "one.yaml": text,
            "one.patch.yaml": text,
            "other.yaml": document({**CONFIG_MAP, "metadata": {"name": "one", "namespace": "other"}}, "base"),
            "queries.env": header("base") + "A=1\n",
        },
        preserve=("images/*",),
    )
    assert mistakes_in(folder) == []


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../one.yaml", "a/../../one.yaml", "a//one.yaml", "./a.yaml", "a\\b", ""]
)
def test_a_path_that_is_not_plain_is_refused(path: str) -> None:
    assert any("is not a plain path" in each for each in mistakes_in(Folder("gitops/base", {path: header("base")})))
    assert any("the folder's path" in each for each in mistakes_in(Folder(path, {})))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (header("base") + "a: [\n", "not one document of YAML"),
        (header("base") + "a: 1\n---\nb: 2\n", "not one document of YAML"),
        ("kind: ConfigMap\n", "doesn't begin with the header"),
        (document({"kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "Yg=="}}, "base"), "Secret with data"),
        (document({"kind": "Secret", "metadata": {"name": "s"}, "stringData": {"a": "b"}}, "base"), "Secret with data"),
        (
            document({"kind": "SecretList", "items": [{"kind": "Secret", "stringData": {"a": "b"}}]}, "base"),
            "Secret with data",
        ),
        (document({"kind": "Component", "secretGenerator": [{"name": "s"}]}, "base"), "secretGenerator"),
    ],
)
def test_a_text_that_may_not_be_in_git_is_refused(text: str, reason: str) -> None:
    mistakes = mistakes_in(Folder("gitops/base", {"one.yaml": text}))

    assert len(mistakes) == 1
    assert mistakes[0].startswith("gitops/base/one.yaml: ")
    assert reason in mistakes[0]


def test_an_object_in_two_files_is_refused() -> None:
    text = document(CONFIG_MAP, "base")

    assert mistakes_in(Folder("gitops/base", {"a.yaml": text, "b.yaml": text})) == [
        "gitops/base/b.yaml: ConfigMap one is already in gitops/base/a.yaml; keep one of them"
    ]


def test_a_file_with_two_owners_is_refused() -> None:
    folder = Folder("gitops/base", {"images/one.yaml": document(CONFIG_MAP, "base")}, preserve=("images/*",))

    assert mistakes_in(folder) == [
        "gitops/base/images/one.yaml: this file is to be written and to be preserved; it can have only one owner"
    ]
