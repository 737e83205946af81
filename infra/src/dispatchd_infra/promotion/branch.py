"""On which branches the files of regions may change: a step of a switch is a pull request into production alone.

Everything else reaches production by a merge of the default branch, where it was reviewed. So a branch with a step
begins at production and changes nothing else, and afterwards production is merged back.
"""

from dispatchd_infra import regions
from dispatchd_infra.git import Git, GitError
from dispatchd_infra.region_state import Regions
from dispatchd_infra.settings import Repository


def check_step(git: Git, repository: Repository) -> None:
    """Raises GitError unless HEAD is production with steps on top, and nothing of them is uncommitted."""
    production = _production(git, repository)
    if not git.descends("HEAD", production):
        raise GitError(
            f"this branch lacks commits of {production}, so it may hold an older region and epoch: begin at"
            f" `git fetch && git switch --no-track --create NEW-BRANCH {production}`"
        )
    others = _outside(git.changed_since_fork(production, "HEAD"))
    if others:
        raise GitError(
            f"this branch differs from {production} in {_named(others)}, and a step of a switch changes {regions.PLACE}"
            f" alone: begin at `git switch --no-track --create NEW-BRANCH {production}`"
        )
    _check_committed(git)


def note(git: Git, repository: Repository, state: Regions) -> str | None:
    """What whoever looks at a state on disk should know: that it is not committed, or not that of production."""
    uncommitted = git.uncommitted(regions.PLACE)
    if uncommitted:
        return f"Note: {_named(uncommitted)} is not committed, so this is not where the switch stands yet."
    production = f"origin/{repository.production}"
    if git.exists(production) and regions.read(lambda path: git.show(production, path)) != state:
        return f"Note: {production} is in another state. See it by `git switch --detach {production}`."
    return None


def check_refresh(git: Git, repository: Repository, state: Regions) -> None:
    """Raises GitError if production is already in another state than the one that would be written anew."""
    _check_committed(git)
    if not git.exists(f"origin/{repository.production}"):
        return
    production = git.remote_branch(repository.production)
    if regions.read(lambda path: git.show(production, path)) != state:
        raise GitError(f"the regions on {production} are in another state: merge {production} into this branch first")


def check_production(git: Git, repository: Repository) -> None:
    """Raises GitError if production holds a change of its own that is no step of a switch."""
    production = _production(git, repository)
    main = git.remote_branch(repository.main)
    others = _outside(git.changed_since_fork(main, production))
    if others:
        raise GitError(
            f"{production} differs from what it got of {main} in {_named(others)}; only {regions.PLACE} may change"
            f" there. Revert this in {repository.production}, and bring it in by a pull request to {repository.main}"
        )


def _production(git: Git, repository: Repository) -> str:
    if git.is_shallow():
        raise GitError("this clone is shallow, so it can't show what production holds: run `git fetch --unshallow`")
    return git.remote_branch(repository.production)


def _check_committed(git: Git) -> None:
    uncommitted = git.uncommitted(regions.PLACE)
    if uncommitted:
        raise GitError(
            f"{_named(uncommitted)}: this is not committed. Commit it, or put it aside by"
            f" `git stash push --include-untracked -- {regions.PLACE}`"
        )


def _outside(paths: list[str]) -> list[str]:
    return [path for path in paths if not path.startswith(f"{regions.PLACE}/")]


def _named(paths: list[str]) -> str:
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more files" if len(paths) > 3 else "")
