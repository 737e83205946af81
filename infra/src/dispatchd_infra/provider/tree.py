"""The resource `gitops:index:Tree`: this folder has exactly these files.

Inputs are `root` (the repository, relative to the program's folder, because state keeps it as it is written), `path`,
`files` (text by path in the folder) and `preserve` (globs). State has the same four, as they are on disk. What a folder
may hold and how it is written is told in `contents` and `folder`; here it only becomes what the engine asks for.
"""

from collections.abc import Mapping
from pathlib import Path

from pulumi.provider.experimental import provider as rpc
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.runtime.rpc import UNKNOWN

from dispatchd_infra import folder
from dispatchd_infra.emit import Folder
from dispatchd_infra.folder import FolderError

Properties = dict[str, PropertyValue]


class TreeProvider(rpc.Provider):
    """Check, diff, create, read, update and delete of a Tree. A preview changes nothing."""

    async def configure(self, request: rpc.ConfigureRequest) -> rpc.ConfigureResponse:
        return rpc.ConfigureResponse(accept_secrets=True, supports_preview=True)

    async def check(self, request: rpc.CheckRequest) -> rpc.CheckResponse:
        """Everything that would fail later fails here, before anything is written, with the file and what to change."""
        try:
            folder.plan(*_tree(request.new_inputs))
        except FolderError as exc:
            failures = [rpc.CheckFailure("", line) for line in str(exc).splitlines()]
            return rpc.CheckResponse(request.new_inputs, failures)
        return rpc.CheckResponse(request.new_inputs)

    async def diff(self, request: rpc.DiffRequest) -> rpc.DiffResponse:
        """Each file that differs. A folder that moves is removed from its old place first."""
        old, new = _flat(request.old_state), _flat(request.new_inputs)
        kinds = rpc.PropertyDiffKind
        detailed = {}
        for key in sorted(old.keys() | new.keys()):
            if key not in old:
                detailed[key] = rpc.PropertyDiff(kinds.ADD, input_diff=False)
            elif key not in new:
                detailed[key] = rpc.PropertyDiff(kinds.DELETE, input_diff=False)
            elif old[key] != new[key]:
                kind = kinds.UPDATE_REPLACE if key == "path" else kinds.UPDATE
                detailed[key] = rpc.PropertyDiff(kind, input_diff=False)
        return rpc.DiffResponse(
            changes=bool(detailed),
            replaces=["path"] if "path" in detailed else [],
            delete_before_replace=True,
            diffs=sorted({key.split("[")[0] for key in detailed}),
            detailed_diff=detailed,
        )

    async def create(self, request: rpc.CreateRequest) -> rpc.CreateResponse:
        """Makes the folder, or adopts the one that is there."""
        root, wanted = _tree(request.properties)
        if not request.preview:
            folder.write(root, wanted)
        return rpc.CreateResponse(wanted.path, request.properties)

    async def read(self, request: rpc.ReadRequest) -> rpc.ReadResponse:
        """The generated files that are there; nothing if the folder is gone."""
        root, known = _tree(request.properties)
        files = folder.read(root, known)
        if files is None:
            return rpc.ReadResponse()
        found = {**request.properties, "files": PropertyValue({name: PropertyValue(files[name]) for name in files})}
        return rpc.ReadResponse(request.resource_id, found, request.inputs)

    async def update(self, request: rpc.UpdateRequest) -> rpc.UpdateResponse:
        """Makes the folder what it should be; an edited file is restored."""
        if not request.preview:
            folder.write(*_tree(request.news))
        return rpc.UpdateResponse(request.news)

    async def delete(self, request: rpc.DeleteRequest) -> None:
        """Removes the generated files; preserved files and those that somebody put there stay."""
        folder.remove(*_tree(request.properties))


def _tree(properties: Mapping[str, PropertyValue]) -> tuple[Path, Folder]:
    """The repository and the folder that properties describe. Raises FolderError if they don't have the right form."""
    if any(value.contains_secret() for value in properties.values()):
        raise FolderError("a value of this Tree is marked as secret, and what it writes is public: take the secret out")
    root, path = _text("root", properties.get("root")), _text("path", properties.get("path"))
    if Path(root).is_absolute():
        raise FolderError(f"root: {root!r} would be another place on each machine; write it relative to the program")
    files = properties.get("files", PropertyValue({})).value
    preserve = properties.get("preserve", PropertyValue([])).value
    if not isinstance(files, Mapping) or not isinstance(preserve, list | tuple):
        raise FolderError("files must be a mapping of paths to texts, and preserve a list of globs")
    return Path(root), Folder(
        path,
        {name: _text(f"files[{name}]", each) for name, each in sorted(files.items())},
        tuple(_text("preserve", each) for each in preserve),
    )


def _text(name: str, value: PropertyValue | None) -> str:
    if value is None or not isinstance(value.value, str):
        raise FolderError(f"{name}: a text is needed here")
    if value.value == UNKNOWN:
        raise FolderError(f"{name}: this is known only after other resources are made; a Tree takes plain text")
    return value.value


def _flat(properties: Mapping[str, PropertyValue]) -> dict[str, object]:
    """Properties by the engine's own paths, such as `files["kustomization.yaml"]`, each with its value."""
    root, tree = _tree(properties)
    flat: dict[str, object] = {f'files["{name}"]': text for name, text in tree.files.items()}
    return {**flat, "root": str(root), "path": tree.path, "preserve": tree.preserve}
