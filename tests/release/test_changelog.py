"""CHANGELOG.md is read strictly, and a release moves what is unreleased below its own heading."""

from datetime import date
from pathlib import Path

import pytest

from dispatchd_pipelines.releasing.changelog import Changelog
from dispatchd_pipelines.releasing.refused import Refused
from dispatchd_pipelines.releasing.version import Version

ROOT = Path(__file__).parents[2]
TEXT = """# Changelog

## [Unreleased]

### Compatibility

- Nothing to do.

### Added

- Something.

## [0.2.0] - 2026-02-03

### Fixed

- A mistake.

## [0.1.1] - 2026-01-02

### Added

- The beginning.
"""


def test_the_changelog_of_this_repository_can_be_read() -> None:
    assert Changelog.parse((ROOT / "CHANGELOG.md").read_text("utf-8")).unreleased is not None


def test_sections_and_their_parts_are_found() -> None:
    changelog = Changelog.parse(TEXT)
    assert changelog.unreleased.parts == {"Compatibility": "- Nothing to do.", "Added": "- Something."}
    assert changelog.unreleased.compatibility == "- Nothing to do."
    assert list(changelog.releases) == [Version(0, 2, 0), Version(0, 1, 1)]
    assert changelog.last_release == Version(0, 2, 0)
    assert changelog.releases[Version(0, 2, 0)].text == "### Fixed\n\n- A mistake."


def test_a_release_takes_what_is_unreleased_and_leaves_the_rest_as_it_is() -> None:
    after = Changelog.parse(TEXT).with_release(Version(0, 3, 0), date(2026, 3, 4))
    assert after.replace("\n## [0.3.0] - 2026-03-04\n", "", 1) == TEXT
    changelog = Changelog.parse(after)
    assert changelog.unreleased.parts == {}
    assert changelog.releases[Version(0, 3, 0)] == Changelog.parse(TEXT).unreleased


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("## [Unreleased]\n", "", "the first section has to be"),
        ("### Added", "### New", "the part 'New'"),
        ("### Added\n", "### Added\n\n### Added\n", "same part twice"),
        ("- Something.", "", "'Added' is empty"),
        ("### Compatibility", "A word.\n\n### Compatibility", "text outside its parts"),
        ("2026-02-03", "unreleased", "is no release"),
        ("2026-02-03", "2026-02-30", "no such day"),
        ("[0.2.0]", "[0.2]", "'0.2' is no version"),
        ("[0.2.0]", "[0.1.0]", "the newest release comes first"),
        ("[0.2.0]", "[0.1.1]", "the newest release comes first"),
    ],
)
def test_a_changelog_in_another_form_is_refused(before: str, after: str, complaint: str) -> None:
    assert before in TEXT
    with pytest.raises(Refused, match=complaint):
        Changelog.parse(TEXT.replace(before, after, 1))


@pytest.mark.parametrize(
    "text", ["1.0", "1.0.0.0", "01.0.0", "1.0.0-rc.1", "1.0.0+build", "v1.0.0", "1.0.x", "", "१.0.0"]
)
def test_what_is_not_three_numbers_is_no_version(text: str) -> None:
    with pytest.raises(Refused, match=r"write MAJOR\.MINOR\.PATCH"):
        Version.parse(text)


@pytest.mark.parametrize("tag", ["1.0.0", "v1.0", "V1.0.0", "vv1.0.0", "release-1.0.0"])
def test_a_tag_is_v_and_the_version(tag: str) -> None:
    with pytest.raises(Refused, match="is no tag of a release"):
        Version.of_tag(tag)


def test_versions_are_ordered_by_number_and_not_as_text() -> None:
    assert Version.of_tag("v0.10.0") > Version.parse("0.9.12")
    assert Version.parse("1.0.0").tag == "v1.0.0"
