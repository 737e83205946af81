"""What the stacks of the gitops program own: all the folders, with the text of every file."""

from pathlib import Path

from dispatchd_infra.emit import Folder
from dispatchd_infra.folders.argocd import argocd
from dispatchd_infra.folders.base import base
from dispatchd_infra.folders.components import components
from dispatchd_infra.folders.overlay import overlay
from dispatchd_infra.settings import Common, Environment, Stack, read_common, read_environment


def render(infra: Path, stack: Stack) -> list[Folder]:
    """The folders of a stack, from the settings in the folder `infra`. Raises SettingsError."""
    return folders_of(stack, read_common(infra), read_environment(infra, stack) if stack.is_environment else None)


def folders_of(stack: Stack, common: Common, environment: Environment | None) -> list[Folder]:
    """The folders of a stack, from its settings; `base` has none of its own."""
    if environment is None:
        return [base(common), components(common)]
    return [overlay(common, environment, stack), argocd(common, environment, stack)]
