"""The notes of a release: its section of CHANGELOG.md and its images; only if tag, version and section agree."""

import json
from pathlib import Path

from dispatchd_pipelines.releasing.changelog import COMPATIBILITY, Changelog
from dispatchd_pipelines.releasing.project import version_in
from dispatchd_pipelines.releasing.refused import Refused
from dispatchd_pipelines.releasing.version import Version


def notes(tag: str, changelog: str, pyproject: str, images: str | None = None) -> str:
    """The text for a release page, in Markdown. `images` is the images.json that publishing has written."""
    version = Version.of_tag(tag)
    if (stands := version_in(pyproject)) != version:
        raise Refused(f"the tag is {tag}, but pyproject.toml has the version {stands}: tag the commit of {version}")
    parsed = Changelog.parse(changelog)
    releases = parsed.releases
    if version not in releases:
        known = ", ".join(map(str, releases)) or "none"
        raise Refused(
            f"CHANGELOG.md has no section for {version}, which `make release` writes; its releases are: {known}"
        )
    if not releases[version].compatibility:
        raise Refused(f"CHANGELOG.md: the section of {version} has no part '### {COMPATIBILITY}'")
    if parsed.unreleased.parts:
        raise Refused(
            f"CHANGELOG.md has more under Unreleased: tag the commit that released {version}, and no later one"
        )
    text = releases[version].text
    return f"{text}\n" if images is None else f"{text}\n\n{_images(images, tag)}"


def _images(content: str, tag: str) -> str:
    try:
        rows = [_row(entry, tag) for entry in json.loads(content)]
    except (ValueError, KeyError, TypeError) as exc:
        raise Refused(
            f"images.json: it has to list service, ref, digest and platforms of each image ({exc!r})"
        ) from exc
    if not rows:
        raise Refused("images.json: it lists no image")
    return "\n".join(["### Images", "", "| role | image | platforms |", "|---|---|---|", *rows, ""])


def _row(entry: dict[str, str | list[str]], tag: str) -> str:
    reference = f"{str(entry['ref']).partition('@')[0]}@{entry['digest']}"
    if f":{tag}@sha256:" not in reference:
        raise Refused(f"images.json: {reference} is not the image of {tag} with its digest")
    return f"| {entry['service']} | `{reference}` | {', '.join(entry['platforms'])} |"


def read_notes(root: Path, tag: str, images: Path | None) -> str:
    """`notes` of the files in this tree."""
    try:
        published = None if images is None else images.read_text("utf-8")
    except OSError as exc:
        raise Refused(f"{images}: {exc.strerror}") from exc
    changelog, pyproject = ((root / name).read_text("utf-8") for name in ("CHANGELOG.md", "pyproject.toml"))
    return notes(tag, changelog, pyproject, published)
