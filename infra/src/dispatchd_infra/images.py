"""Which image each role runs in an environment: `gitops/overlays/<environment>/images/kustomization.yaml`.

Each of these files is a kustomize component that says nothing but images, so that a release changes one line for each
role. `infra promote-image` alone writes them; `infra render` and `pulumi up` leave them as they are.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dispatchd_infra import emit
from dispatchd_infra.emit import Folder
from dispatchd_infra.kustomize import FILE
from dispatchd_infra.manifests.roles import SERVING, Role
from dispatchd_infra.manifests.roles import image as name_of
from dispatchd_infra.objects import Object
from dispatchd_infra.settings import Common, SettingsError, Stack, checked

NOTHING_RELEASED = f"sha256:{'0' * 64}"
"""The digest of no image: what an environment outside dev holds before its first release."""
LOCAL_TAG = "local"
"""What dev holds before a first release: the image that a developer builds."""

_HEADER = f"{emit.HEADER_START} promote-image, which alone changes this file.\n"
_DIGEST = r"sha256:[0-9a-f]{64}"
_REFERENCE = re.compile(
    rf"(?P<name>[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)+)(:(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}}))?(@(?P<digest>{_DIGEST}))?"
)


class ImageRefused(ValueError):
    """This is no image that may be written here; the text says what to change."""


@dataclass(frozen=True, slots=True)
class RoleImage:
    """One image: a name, a tag, and the digest of what the tag meant when somebody looked."""

    name: str
    tag: str | None
    digest: str | None

    @classmethod
    def parse(cls, reference: str) -> Self:
        """Reads `registry/owner/name:tag@sha256:…`; tag and digest may be missing. Raises ImageRefused."""
        found = _REFERENCE.fullmatch(reference)
        if found is None:
            raise ImageRefused(f"{reference!r} is no image: write registry/owner/name:tag@sha256:…")
        return cls(found["name"], found["tag"], found["digest"])

    @property
    def is_released(self) -> bool:
        return self.digest != NOTHING_RELEASED

    def __str__(self) -> str:
        if not self.is_released:
            return "nothing released"
        digest = "" if self.digest is None else f"@{self.digest.removeprefix('sha256:')[:12]}"
        return f"{self.tag or ''}{digest}"


Images = Mapping[Role, RoleImage]
"""The images of the roles that serve; the Job migrate uses that of the control-plane."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    new_name: Annotated[str, Field(alias="newName")]
    new_tag: Annotated[str | None, Field(alias="newTag")] = None
    digest: Annotated[str, Field(pattern=f"^{_DIGEST}$")] | None = None


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    api_version: Annotated[Literal["kustomize.config.k8s.io/v1alpha1"], Field(alias="apiVersion")]
    kind: Literal["Component"]
    images: tuple[_Entry, ...]


def at_first(common: Common, stack: Stack) -> Images:
    """What an environment holds before its first release."""
    tag, digest = (LOCAL_TAG, None) if stack is Stack.DEV else (None, NOTHING_RELEASED)
    return {role: RoleImage(name_of(common, role), tag, digest) for role in SERVING}


def path_of(stack: Stack) -> str:
    """The file of an environment, from the top of the repository."""
    return f"gitops/overlays/{stack}/images/{FILE}"


def folder(common: Common, stack: Stack, images: Images) -> Folder:
    """The folder of an environment with this file. Raises ImageRefused if a role has no image, or one without tag."""
    missing = [role for role in SERVING if role not in images]
    if missing:
        raise ImageRefused(f"{stack}: there is no image for {', '.join(missing)}")
    value: Object = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "images": [_entry(name_of(common, role), images[role]) for role in SERVING],
    }
    path = path_of(stack)
    return Folder(path.removesuffix(f"/{FILE}"), {FILE: _HEADER + emit.body(value)})


def read(text: str, common: Common, source: str) -> Images:
    """The images in the text of such a file; errors name the source. Raises SettingsError."""
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as exc:
        raise SettingsError(f"{source}: this is no YAML: {exc}") from exc
    roles = {name_of(common, role): role for role in SERVING}
    images = {}
    for entry in checked(_File, value, source).images:
        if entry.name not in roles:
            raise SettingsError(f"{source}: images: {entry.name} is none of {', '.join(roles)}")
        images[roles[entry.name]] = RoleImage(entry.new_name, entry.new_tag, entry.digest)
    missing = [role for role in SERVING if role not in images]
    if missing:
        raise SettingsError(f"{source}: images: {', '.join(missing)} is missing")
    return images


def digests(text: str) -> dict[Role, str]:
    """The digests in an older text of such a file, whatever registry it names; nothing if it can't be read."""
    try:
        entries = _File.model_validate(yaml.safe_load(text)).images
    except (yaml.YAMLError, ValidationError):
        return {}
    roles = {f"dispatchd-{role}": role for role in SERVING}
    named = ((roles.get(entry.name.rpartition("/")[2]), entry.digest) for entry in entries)
    return {role: digest for role, digest in named if role is not None and digest is not None}


def _entry(name: str, image: RoleImage) -> dict[str, Any]:
    entry = {"name": name, "newName": image.name, "newTag": image.tag, "digest": image.digest}
    return {key: value for key, value in entry.items() if value is not None}
