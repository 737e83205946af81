"""`dispatchd worker package.module:worker` finds the worker, or says what is wrong with the name."""

import sys
from pathlib import Path

import pytest

from dispatchd import Worker, WorkerReferenceError, load_worker

MODULE = """
from dispatchd import Worker
worker = Worker(worker_id="found")
class Settings:
    worker = Worker(worker_id="nested")
other = 7
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `shop` in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    for name in [name for name in sys.modules if name.partition(".")[0] == "shop"]:
        monkeypatch.delitem(sys.modules, name)
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "tasks.py").write_text(MODULE)
    (package / "empty.py").touch()
    (package / "broken.py").write_text("import there_is_no_such_module")
    (package / "failing.py").write_text("raise LookupError('mine')")
    return package


@pytest.mark.usefixtures("shop")
def test_a_worker_is_found_in_the_current_folder() -> None:
    assert load_worker("shop.tasks:worker").worker_id == "found"
    assert load_worker("shop.tasks:Settings.worker").worker_id == "nested"
    assert isinstance(load_worker("shop.tasks:worker"), Worker)


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("", "write module:attribute"),
        ("shop.tasks", "write module:attribute"),
        (":worker", "write module:attribute"),
        ("shop.tasks:", "write module:attribute"),
        ("shop.nothing:worker", r"no module 'shop\.nothing'"),
        ("nothing.tasks:worker", "no module 'nothing'"),
        ("shop.tasks:wroker", "no attribute 'wroker'; its workers are worker"),
        ("shop.tasks:other", "is a int, not a Worker; its workers are worker"),
        ("shop.empty:worker", "no attribute 'worker'; it holds no Worker at all"),
    ],
)
def test_a_name_that_does_not_fit_is_explained(reference: str, message: str) -> None:
    with pytest.raises(WorkerReferenceError, match=message):
        load_worker(reference)


@pytest.mark.usefixtures("shop")
def test_what_the_module_itself_raises_comes_out_as_it_is() -> None:
    with pytest.raises(ModuleNotFoundError, match="there_is_no_such_module"):
        load_worker("shop.broken:worker")
    with pytest.raises(LookupError, match="mine"):
        load_worker("shop.failing:worker")
