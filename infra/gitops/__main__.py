"""Writes what the selected stack owns in gitops/. `infra render` writes the same without Pulumi."""

from pathlib import Path

from dispatchd_infra.components import KustomizeOverlay
from dispatchd_infra.folder import plan
from dispatchd_infra.program import configured, refusals_end_the_program, selected_stack
from dispatchd_infra.render import folders_of
from dispatchd_infra.settings import CONFIG_KEY, environment_from, named, read_common

with refusals_end_the_program():
    infra = Path(__file__).parents[1]
    stack = selected_stack()
    source = named(stack)
    environment = None
    if stack.is_environment:
        environment = environment_from(configured(CONFIG_KEY, source), stack, source)
    folders = folders_of(stack, read_common(infra), environment)
    for folder in folders:
        # Before Pulumi writes the first of them, so that a stray file in one leaves all of them as they are.
        plan(infra.parent, folder)
    KustomizeOverlay(stack, "../..", folders)
