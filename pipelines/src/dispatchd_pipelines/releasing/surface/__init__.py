"""What a release promises to keep, as names with a line each, in five areas; docs/release.md says what they cover.

The modules here read it from the code, the contract and `gitops/` of this tree.
"""

from collections.abc import Mapping
from typing import TypeAlias

Names: TypeAlias = Mapping[str, str]
"""Everything in one area: a name, and on one line what users rely on about it."""

Surface: TypeAlias = Mapping[str, Names]

PYTHON, SETTINGS, CONTRACT, IMAGES, GITOPS = AREAS = ("python", "settings", "contract", "images", "gitops")
