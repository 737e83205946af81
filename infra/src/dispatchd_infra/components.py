"""What the Pulumi program of gitops/ is made of: the folders that one stack owns."""

import itertools
from collections.abc import Sequence

import pulumi

from dispatchd_infra.emit import Folder
from dispatchd_infra.provider import TREE


class Tree(pulumi.CustomResource):
    """A folder that has exactly these files. It is named after its path, so that no two resources own one folder."""

    def __init__(self, root: str, folder: Folder, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            TREE,
            folder.path,
            {"root": root, "path": folder.path, "files": dict(folder.files), "preserve": list(folder.preserve)},
            opts,
        )


class KustomizeOverlay(pulumi.ComponentResource):
    """Everything in gitops/ that a stack owns: its kustomize overlay, and what Argo CD reads to apply it.

    `root` is the repository, relative to the folder of the program. Raises ValueError if one folder is within another.
    """

    def __init__(
        self, name: str, root: str, folders: Sequence[Folder], opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("dispatchd:gitops:KustomizeOverlay", name, None, opts)
        paths = sorted(f"{folder.path}/" for folder in folders)
        for path, following in itertools.pairwise(paths):
            if following.startswith(path):
                raise ValueError(f"stack {name}: {following} is within {path}, so that its files had two owners")
        for folder in folders:
            Tree(root, folder, pulumi.ResourceOptions(parent=self))
        self.register_outputs({"paths": paths})
