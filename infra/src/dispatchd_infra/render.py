"""What the stacks of the gitops program own: all the folders, with the text of every file."""

from pathlib import Path

from dispatchd_infra.emit import Folder
from dispatchd_infra.folders.base import base
from dispatchd_infra.folders.components import components
from dispatchd_infra.folders.overlay import overlay
from dispatchd_infra.settings import Stack, read_common, read_environment


def render(infra: Path, stack: Stack) -> list[Folder]:
    """The folders of a stack, from the settings in the folder `infra`. Raises SettingsError."""
    common = read_common(infra)
    if stack is Stack.BASE:
        return [base(common), components()]
    environment = read_environment(infra, stack)
    return [overlay(common, environment, stack)]
