"""What `infra promote-image` may write where.

::

    dev ◀── any tag            staging ◀── digests            production ◀── digests that stood in staging
                                  main's own history of staging's file is the proof ──┘

Outside dev an image has a digest, because a tag may mean something else tomorrow. Production takes only what staging
had on the default branch, unless the operator forces it.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from dispatchd_infra import images
from dispatchd_infra.git import Git, GitError
from dispatchd_infra.images import ImageRefused, Images, RoleImage
from dispatchd_infra.manifests.roles import SERVING, Role
from dispatchd_infra.manifests.roles import image as name_of
from dispatchd_infra.settings import COMMON, Common, Stack, mistakes


class _Published(BaseModel):
    """What the release pipeline says of one image; it may say more."""

    service: str
    ref: str
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


_PUBLISHED = TypeAdapter(list[_Published])


def published(content: bytes, source: str, common: Common) -> Images:
    """Reads `images.json` of a release, which names an image for every role. Raises ImageRefused."""
    try:
        entries = _PUBLISHED.validate_json(content)
    except ValidationError as exc:
        raise ImageRefused("\n".join(mistakes(exc, source))) from exc
    found: dict[Role, RoleImage] = {}
    for entry in entries:
        role = _role(entry.service)
        if role in found:
            raise ImageRefused(f"{source}: {role} is there twice")
        image = RoleImage.parse(entry.ref)
        if image.name != name_of(common, role):
            raise ImageRefused(
                f"{source}: {role}: ref names {image.name}, but the registry in {COMMON} makes it"
                f" {name_of(common, role)}: change the one that is wrong"
            )
        if image.digest not in (None, entry.digest):
            raise ImageRefused(f"{source}: {role}: ref and digest name two digests")
        found[role] = RoleImage(image.name, image.tag, entry.digest)
    missing = [role for role in SERVING if role not in found]
    if missing:
        raise ImageRefused(f"{source}: there is no image for {', '.join(missing)}; a release has one for every role")
    return found


def named(options: Iterable[str], common: Common) -> Images:
    """Reads `ROLE=TAG@sha256:…` for some of the roles. Raises ImageRefused."""
    found: dict[Role, RoleImage] = {}
    for option in options:
        name, _, version = option.partition("=")
        role = _role(name)
        if role in found:
            raise ImageRefused(f"{role} is there twice")
        try:
            found[role] = RoleImage.parse(f"{name_of(common, role)}:{version}")
        except ImageRefused:
            raise ImageRefused(f"{option!r}: write {role}=TAG@sha256:… with a tag and 64 hexadecimal digits") from None
    return found


def tagged(tag: str, common: Common) -> Images:
    """Every role under one tag. Raises ImageRefused."""
    try:
        return {role: RoleImage.parse(f"{name_of(common, role)}:{tag}") for role in SERVING}
    except ImageRefused:
        raise ImageRefused(f"--tag {tag!r}: this is no tag; write one such as sha-1234567") from None


def _role(name: str) -> Role:
    if name not in SERVING:
        raise ImageRefused(f"{name!r} is no role with an image of its own: these are {', '.join(SERVING)}")
    return Role(name)


def check(stack: Stack, chosen: Images, git: Git, main: str, *, force: bool) -> None:
    """Raises ImageRefused, with a line for each image that may not be written to this environment."""
    refused = []
    for role, image in chosen.items():
        if not image.is_released:
            refused.append(f"{stack}: {role}: nothing was released; the digest of zeros is no image")
        elif image.digest is None and stack is not Stack.DEV:
            refused.append(
                f"{stack}: {role}: {image.tag} has no digest, and outside dev a tag alone may change its meaning;"
                f" write {role}={image.tag}@sha256:…"
            )
    if not refused and stack.is_production and not force:
        refused = _not_in_staging(stack, chosen, git, main)
    if refused:
        raise ImageRefused("\n".join(refused))


def _not_in_staging(stack: Stack, chosen: Images, git: Git, main: str) -> list[str]:
    if git.is_shallow():
        raise GitError(
            "this clone is shallow, so it can't show what staging once had: run `git fetch --unshallow`,"
            " or check out with fetch-depth 0"
        )
    branch = git.branch(main)
    stood = _digests_of_staging(git, branch)
    return [
        f"{stack}: {role}: {image} never stood in {images.path_of(Stack.STAGING)} on {branch}: promote it to staging"
        " first, and let that be merged; --force does without"
        for role, image in chosen.items()
        if image.digest not in stood[role]
    ]


def _digests_of_staging(git: Git, branch: str) -> Mapping[Role, set[str | None]]:
    """Every digest that staging had on this branch."""
    path = images.path_of(Stack.STAGING)
    found: dict[Role, set[str | None]] = {role: set() for role in SERVING}
    for commit in git.versions(branch, path):
        text = git.show(commit, path)
        for role, digest in images.digests(text or "").items():
            found[role].add(digest)
    return found


def changes(stack: Stack, before: Images, after: Images) -> Sequence[str]:
    """A line for each role whose image is another one."""
    return [f"{stack}: {role}: {before[role]} → {after[role]}" for role in SERVING if before[role] != after[role]]
