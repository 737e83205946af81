"""What every environment holds according to git, and what waits to be promoted.

dev and staging follow the default branch, production follows its own. Branches are seen as the server had them at the
last fetch; where there is none, the files on disk are looked at.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dispatchd_infra import images, regions
from dispatchd_infra.git import Git, GitError
from dispatchd_infra.images import Images, RoleImage
from dispatchd_infra.manifests.roles import SERVING
from dispatchd_infra.promotion.steps import Phase, phase_of
from dispatchd_infra.region_state import Regions, peer_of
from dispatchd_infra.regions import Reader
from dispatchd_infra.settings import ENVIRONMENTS, PRODUCTION, Common, Stack, read_common, read_environment

ON_DISK = "files on disk"


@dataclass(frozen=True, slots=True)
class Row:
    """One environment."""

    stack: Stack
    seen_in: str
    """The branch."""
    images: Images
    region: str
    epoch: int
    waiting: tuple[str, ...]
    """What is here, and not yet where it goes next."""


@dataclass(frozen=True, slots=True)
class Overview:
    """All environments."""

    rows: tuple[Row, ...]
    phase: Phase
    """Where a switch of regions stands."""


def look(infra: Path) -> Overview:
    """Raises SettingsError, GitError or StateRefused if something can't be read."""
    common, git = read_common(infra), Git(infra.parent)
    main, seen_in_main = _branch(git, common.repository.main)
    production, seen_in_production = _branch(git, common.repository.production)
    on_main = {stack: _images(main, common, stack) for stack in ENVIRONMENTS}
    running = {**on_main, **{stack: _images(production, common, stack) for stack in PRODUCTION}}
    state = regions.read(production)
    rows = [
        Row(
            stack,
            seen_in_production if stack.is_production else seen_in_main,
            running[stack],
            _region(state, stack) if stack.is_production else read_environment(infra, stack).region,
            state.epoch if stack.is_production else 1,
            tuple(_waiting(stack, running, on_main)),
        )
        for stack in ENVIRONMENTS
    ]
    return Overview(tuple(rows), phase_of(state))


def _branch(git: Git, name: str) -> tuple[Reader, str]:
    try:
        branch = git.branch(name)
    except GitError:
        return regions.files_in(git.root), ON_DISK
    return (lambda path: git.show(branch, path)), branch


def _images(reader: Reader, common: Common, stack: Stack) -> Images:
    path = images.path_of(stack)
    text = reader(path)
    return images.at_first(common, stack) if text is None else images.read(text, common, path)


def _region(state: Regions, stack: Stack) -> str:
    place = "primary" if state.primary is stack else "passive"
    return f"{place}, database {state.of(stack).role}"


def _waiting(stack: Stack, running: Mapping[Stack, Images], on_main: Mapping[Stack, Images]) -> list[str]:
    here = running[stack]
    lines = []
    for role in SERVING:
        image = here[role]
        if stack is Stack.DEV:
            if image.tag not in (images.LOCAL_TAG, running[Stack.STAGING][role].tag):
                lines.append(f"{role}: not in staging")
        elif stack is Stack.STAGING:
            lacking = [each for each in PRODUCTION if not _is_same(image, running[each][role])]
            if image.is_released and lacking:
                lines.append(f"{role}: not in {'production' if lacking == list(PRODUCTION) else lacking[0]}")
        else:
            if not _is_same(on_main[stack][role], image):
                lines.append(f"{role}: {on_main[stack][role]} waits for a merge")
            if not _is_same(running[peer_of(stack)][role], image):
                lines.append(f"{role}: other than {peer_of(stack)}")
    return lines


def _is_same(one: RoleImage, other: RoleImage) -> bool:
    return one.digest == other.digest
