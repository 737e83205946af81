"""Compares the licences of the packages in an environment with the list of those that are allowed.

The environment is the one that runs this, so that the scan is a step of its own for each. Only what is installed on
this platform is looked at: a package for Windows alone is in the lock file and not here.
"""

import importlib.metadata
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from dispatchd_pipelines.scans.finding import Finding

ENVIRONMENTS = ("app", "infra", "pipelines", "scanners")

ALLOWED = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "MIT",
        "MIT-0",
        "MPL-2.0",
        "PSF-2.0",
    }
)
"""By their SPDX identifiers. All of them let a program under Apache-2.0 use the package as it is."""

_WRITTEN_AS = {
    "2-clause bsd license": "BSD-2-Clause",
    "3-clause bsd license": "BSD-3-Clause",
    "apache": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "bsd 2-clause license": "BSD-2-Clause",
    "bsd 3-clause license": "BSD-3-Clause",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "psfl": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
}
"""How older metadata writes them; a bare "BSD License" says too little to be here."""

_UNKNOWN = "unknown"
_CLASSIFIER = "License :: OSI Approved :: "


class BadExpression(ValueError):
    """This is no licence expression of SPDX."""


def scan(root: Path) -> list[Finding]:
    """The packages of this environment whose licence is not allowed, or that do not say which one they have."""
    return sorted(_findings(importlib.metadata.distributions()))


def _findings(installed: Iterable[importlib.metadata.Distribution]) -> Iterator[Finding]:
    for distribution in installed:
        licence = declared(distribution.metadata)
        try:
            allowed = is_allowed(licence)
        except BadExpression:
            allowed = False
        if not allowed:
            name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
            known = "declares no licence" if licence == _UNKNOWN else f"has the licence {licence}"
            yield Finding("licence", name, f"{known}, which is not one of {', '.join(sorted(ALLOWED))}")


def declared(metadata: importlib.metadata.PackageMetadata) -> str:
    """The licence that a package declares, as an SPDX expression where it can be read as one."""
    for expression in metadata.get_all("License-Expression") or []:
        return str(expression)
    written = str("".join(metadata.get_all("License") or [])).strip().partition("\n")[0].strip()
    if written in ALLOWED or written.lower() in _WRITTEN_AS:
        return _WRITTEN_AS.get(written.lower(), written)
    classifiers = [str(each) for each in metadata.get_all("Classifier") or []]
    approved = [each.removeprefix(_CLASSIFIER) for each in classifiers if each.startswith(_CLASSIFIER)]
    if approved:
        return " AND ".join(_WRITTEN_AS.get(each.lower(), each.replace(" ", "-")) for each in approved)
    return written if written and written != "UNKNOWN" else _UNKNOWN


def is_allowed(expression: str) -> bool:
    """Whether an SPDX expression can be kept with allowed licences. Raises BadExpression if it is none."""
    words = re.findall(r"[()]|[^\s()]+", expression)
    answer = _either(words)
    if words:
        raise BadExpression(expression)
    return answer


def _either(words: list[str]) -> bool:
    answer = _both(words)
    while words and words[0].upper() == "OR":
        words.pop(0)
        other = _both(words)
        answer = answer or other
    return answer


def _both(words: list[str]) -> bool:
    answer = _one(words)
    while words and words[0].upper() == "AND":
        words.pop(0)
        other = _one(words)
        answer = answer and other
    return answer


def _one(words: list[str]) -> bool:
    word = words.pop(0) if words else ")"
    if word == "(":
        answer = _either(words)
        if not words or words.pop(0) != ")":
            raise BadExpression("a bracket is not closed")
        return answer
    if word == ")" or word.upper() in {"AND", "OR", "WITH"}:
        raise BadExpression("a licence is missing")
    if words and words[0].upper() == "WITH":
        # An exception only ever adds to what the licence grants.
        words.pop(0)
        _one(words)
    return word in ALLOWED
