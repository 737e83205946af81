"""The program of gitops/, run with Pulumi's mocks: it hands Pulumi what `infra render` writes."""

from typing import Any

import pulumi
import pytest

from dispatchd_infra.components import KustomizeOverlay
from dispatchd_infra.emit import Folder
from dispatchd_infra.render import render
from dispatchd_infra.settings import CONFIG_KEY, Stack
from pulumi_mocks import INFRA, run, stack_config


@pytest.mark.parametrize("stack", list(Stack))
def test_each_stack_owns_the_folders_that_render_writes(stack: Stack) -> None:
    registered = run("gitops", stack, stack_config("gitops", stack))

    trees = registered.of_type("gitops:index:Tree")
    assert {
        name: Folder(tree.inputs["path"], tree.inputs["files"], tuple(tree.inputs["preserve"]))
        for name, tree in trees.items()
    } == {folder.path: folder for folder in render(INFRA, stack)}
    assert {tree.inputs["root"] for tree in trees.values()} == {"../.."}
    assert list(registered.of_type("dispatchd:gitops:KustomizeOverlay")) == [stack]


@pytest.mark.parametrize(
    ("stack", "change", "reason"),
    [
        ("prod-region-c", {}, "there is no stack prod-region-c; select one of base, dev,"),
        (
            "staging",
            {CONFIG_KEY: None},
            "infra/gitops/Pulumi.staging.yaml: the key config.dispatchd-gitops:environment is missing",
        ),
        (
            "staging",
            {CONFIG_KEY: "big"},
            "infra/gitops/Pulumi.staging.yaml: dispatchd-gitops:environment: write a mapping",
        ),
        (
            "staging",
            {"roles": {}},
            "infra/gitops/Pulumi.staging.yaml: dispatchd-gitops:environment: roles.control_plane: Field required",
        ),
        ("staging", {"app_env": "development-kind"}, "app_env: development-kind does not fit stack staging"),
    ],
)
def test_a_mistake_ends_the_program_with_the_file_and_the_key(stack: str, change: dict[str, Any], reason: str) -> None:
    settings = stack_config("gitops", "staging")
    for key, value in change.items():
        if key == CONFIG_KEY:
            settings[key] = value
        else:
            settings[CONFIG_KEY][key] = value

    with pytest.raises(pulumi.RunError, match=reason):
        run("gitops", stack, {key: value for key, value in settings.items() if value is not None})


def test_an_encrypted_setting_is_refused() -> None:
    with pytest.raises(
        pulumi.RunError, match=r"infra/gitops/Pulumi\.dev\.yaml: dispatchd-gitops:environment is encrypted"
    ):
        run("gitops", "dev", stack_config("gitops", "dev"), secret=(CONFIG_KEY,))


def test_a_folder_within_another_of_the_same_stack_is_refused() -> None:
    with pytest.raises(ValueError, match="gitops/base/tls/ is within gitops/base/"):
        KustomizeOverlay("base", "../..", [Folder("gitops/base", {}), Folder("gitops/base/tls", {})])


def test_no_folder_of_a_stack_is_within_one_of_another_stack() -> None:
    paths = sorted(f"{folder.path}/" for stack in Stack for folder in render(INFRA, stack))

    assert len(paths) == len(set(paths))
    assert not [path for path in paths for other in paths if other != path and path.startswith(other)]
