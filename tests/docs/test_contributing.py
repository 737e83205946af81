"""CONTRIBUTING.md leads somewhere: what it names exists, and what it says of the code is so."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from dispatchd.adapters.postgres.migrate import _FILE, _OLDEST_CODE, read_migrations
from dispatchd.domain.access import AccessRole, Identity, check_may_call
from dispatchd.domain.errors import PermissionDenied
from dispatchd_pipelines.steps import Step, step

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
WALKS = ("Add a message to the contract", "Add a migration", "Add a metric", "Add a step to the checks")


def section(title: str) -> str:
    [text] = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return str(text)


def code(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def paths(text: str) -> list[str]:
    """What stands in backticks and is a path: it begins with a folder of this repository, or is a file of its top."""
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()}
    return [word for word in code(text) if word.partition("/")[0] in folders or (ROOT / word).is_file()]


@pytest.mark.parametrize("title", WALKS)
def test_every_file_and_folder_of_a_walk_is_there(title: str) -> None:
    named = [path for path in paths(section(title)) if "NNNN" not in path]
    assert len(named) >= 2
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_verb_exists() -> None:
    verbs = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?:`|^\$ )make ([a-z0-9-]+)", PAGE, re.MULTILINE))
    assert named >= {"setup", "test", "proto", "proto-check", "render"}
    assert named - verbs == set()


def test_setting_up_takes_two_commands() -> None:
    assert re.findall(r"^\$ (.*)$", section("Set up"), re.MULTILINE) == [
        "git clone https://github.com/dispatchd/dispatchd.git && cd dispatchd",
        "make setup",
    ]


def test_a_method_that_is_not_in_the_table_is_refused() -> None:
    assert "`METHODS` in `app/dispatchd/domain/access.py`" in section(WALKS[0])
    everybody = Identity("admin", frozenset(AccessRole))
    check_may_call(everybody, "JobService.SubmitJob")
    with pytest.raises(PermissionDenied):
        check_may_call(everybody, "JobService.Unheard")


def test_numbers_begin_where_the_test_of_the_contract_begins() -> None:
    [first] = re.findall(
        r"^FIRST_NUMBER_OF_OURS = (\d+)$", (ROOT / "tests/contract/test_proto.py").read_text("utf-8"), re.MULTILINE
    )
    assert f"a number from {first}\n   upwards" in section(WALKS[0])


def test_a_migration_has_the_name_and_the_first_line_of_the_walk() -> None:
    text = section(WALKS[1])
    [path] = [path for path in paths(text) if "NNNN" in path]
    newest = read_migrations()[-1]
    name = Path(path).name.replace("NNNN", f"{newest.version + 1:04}")
    assert _FILE.fullmatch(name) is not None
    assert list((ROOT / path).parent.glob(f"{newest.version:04}_*.sql"))
    assert "`-- oldest code: N`" in text
    assert _OLDEST_CODE.match("-- oldest code: 1") is not None


def test_the_labels_of_metrics_are_listed_where_the_walk_says() -> None:
    assert "`tests/unit/test_metrics.py` has the list of labels" in section(WALKS[2])
    assert "bounded = {" in (ROOT / "tests/unit/test_metrics.py").read_text("utf-8")


def test_a_step_has_what_the_walk_asks_for() -> None:
    text = section(WALKS[3])
    assert "say so in `needs`" in text
    assert {"argv", "inputs", "image", "needs"} <= {field.name for field in fields(Step)}
    [name] = re.findall(r"^   \$ make ci STEPS=(\S+)$", text, re.M)
    assert step(name).name == name
