"""A licence that is not on the list is found, however a package writes it down."""

import sys
from pathlib import Path

import pytest

from dispatchd_pipelines.scans import licences


def findings(folder: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> list[str]:
    information = folder / "some_package-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(
        "\n".join(["Metadata-Version: 2.4", "Name: Some_Package", *lines, ""]), "utf-8"
    )
    monkeypatch.setattr(sys, "path", [str(folder)])
    return [each.key for each in licences.scan(folder)]


@pytest.mark.parametrize(
    "lines",
    [
        ["License-Expression: GPL-3.0-only"],
        ["License-Expression: MIT AND GPL-3.0-only"],
        ["License-Expression: MIT AND ("],
        ["License: GPLv2", "Classifier: License :: OSI Approved :: GNU General Public License v2 (GPLv2)"],
        ["Classifier: License :: OSI Approved :: MIT License", "Classifier: License :: OSI Approved :: BSD License"],
        ["License: Proprietary"],
        ["License: UNKNOWN"],
        ["License: MIT", "License: Proprietary"],
        [],
    ],
)
def test_a_licence_that_is_not_allowed_is_found(
    lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert findings(tmp_path, monkeypatch, *lines) == ["licence some-package"]


@pytest.mark.parametrize(
    "lines",
    [
        ["License-Expression: MIT"],
        ["License-Expression: GPL-3.0-only OR MIT"],
        ["License-Expression: (Apache-2.0 WITH LLVM-exception) AND (BSD-3-Clause OR GPL-2.0-only)"],
        ["License: Apache 2.0"],
        ["License: Apache License Version 2.0"],
        ["License: MIT License"],
        ["Classifier: License :: OSI Approved :: Apache Software License"],
    ],
)
def test_a_licence_that_is_allowed_is_not(lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert findings(tmp_path, monkeypatch, *lines) == []


@pytest.mark.parametrize("broken", ["", "MIT OR", "AND MIT", "(MIT", "MIT)", "MIT Apache-2.0", "MIT WITH"])
def test_an_expression_that_is_none_is_refused(broken: str) -> None:
    with pytest.raises(licences.BadExpression):
        licences.is_allowed(broken)


def test_the_whole_text_of_a_licence_is_read_by_its_first_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = ["License: MIT License", "        ", "        Copyright (c) 2026"]
    assert findings(tmp_path, monkeypatch, *text) == []
