"""Lets an environment run the images of a release, by the command that does it everywhere: `infra promote-image`."""

import dagger

from dispatchd_pipelines.environments import SOURCE, Environments
from dispatchd_pipelines.step import ImageRole

ENVIRONMENTS = ("dev", "staging", "prod-region-a", "prod-region-b", "production")
_IMAGES = "/images.json"


class UnknownEnvironment(ValueError):
    """There is no environment of this name."""


async def promote(
    environments: Environments, git: dagger.GitRef, environment: str, images: dagger.File
) -> dagger.Changeset:
    """What changes in gitops/ when an environment runs these images. The history shows what staging once had."""
    if environment not in ENVIRONMENTS:
        choices = ", ".join(ENVIRONMENTS)
        raise UnknownEnvironment(f"there is no environment {environment!r}; the environments are: {choices}")
    before = git.tree(discard_git_dir=True)
    clone = environments.of(ImageRole.INFRA).with_directory(SOURCE, git.tree(depth=0)).with_file(_IMAGES, images)
    done = clone.with_exec(["infra", "promote-image", "--env", environment, "--images", _IMAGES])
    after = before.with_directory("gitops", done.directory(f"{SOURCE}/gitops"))
    return await after.changes(before).sync()
