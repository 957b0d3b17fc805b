"""Complete new results take the place of the old ones, however often that is interrupted."""

import shutil
from pathlib import Path

import pytest

from autolora.engine.disk import exchange
from autolora.engine.disk.lock import locked
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.settling import Places, finish, settle, settle_if_free
from autolora.engine.study.folder import StudyFolder
from tests.helpers.processes import killed_at
from tests.helpers.run_folders import everything

OLD = {
    "config.yaml": "old", "ranks.json": "old", "search/x": "old", "metrics.json": "old", "merged/y": "old",
    ".ranks.json.tmp": "old",
}  # fmt: skip
NEW = {"config.yaml": "new", "ranks.json": "new", "search/x": "new", "wandb/run-2/log": "new", "wandb/latest": "new"}
MINE = {"notes.txt": "mine", "plots/a/b.png": "mine", "wandb/run-1/log": "mine", "data.csv": "mine"}
KEPT = {"wandb/latest": "old"}
"""The new one of it wins."""
EXPECTED = NEW | MINE


def write(root: Path, content: dict[str, str]) -> None:
    for name, text in content.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def texts(root: Path) -> dict[str, str]:
    return {name: content.decode() for name, content in everything(root).items() if content is not None}


@pytest.fixture
def places(tmp_path: Path) -> Places:
    """Old results of a run with the user's files among them, and complete new ones beside them."""
    found = Places.of(tmp_path / "runs" / "x")
    write(found.root, OLD | MINE | KEPT)
    write(found.growing, NEW)
    return found


def put(places: Places) -> None:
    finish(places, RunFolder(places.root).patterns())


@pytest.fixture(params=[True, False], ids=["exchanged", "renamed twice"])
def exchanges(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the file system can exchange two folders."""
    if not request.param:
        monkeypatch.setattr(exchange, "swap", lambda one, other: False)
    return bool(request.param)


def test_the_new_results_stand_with_what_the_user_had_among_the_old(places: Places, exchanges: bool) -> None:
    put(places)
    assert texts(places.root) == EXPECTED
    assert [path.name for path in places.root.parent.iterdir()] == ["x"]


def test_where_nothing_or_an_empty_folder_was_they_just_stand(places: Places) -> None:
    shutil.rmtree(places.root)
    put(places)
    assert texts(places.root) == NEW
    write(places.growing, NEW)
    shutil.rmtree(places.root)
    places.root.mkdir()
    put(places)
    assert texts(places.root) == NEW


@pytest.mark.parametrize("apart", [pytest.param(1, marks=pytest.mark.slow), pytest.param(6, marks=pytest.mark.trains)])
def test_a_kill_at_any_operation_leaves_the_old_or_the_new_and_the_next_command_ends_it(
    places: Places, tmp_path: Path, exchanges: bool, apart: int
) -> None:
    """`apart`: operations between two of the moments that are tried."""
    shutil.copytree(tmp_path / "runs", tmp_path / "before")
    moment, killed = 1 - apart, True
    while killed:
        moment += apart
        shutil.rmtree(tmp_path / "runs")
        shutil.copytree(tmp_path / "before", tmp_path / "runs")
        killed = killed_at(moment, lambda: put(places))
        if exchanges or places.root.exists():  # two renames leave a moment without either
            stands = {name: text for name, text in texts(places.root).items() if text != "mine"}
            stands.pop(".overwrite.json", None)
            assert stands in (OLD | KEPT, NEW), moment
        began = places.complete
        # A second kill, while the next command ends what the first has left.
        killed_at(1 + moment % 7, lambda: settle(places))
        settle(places)
        if began or not killed:
            assert texts(places.root) == EXPECTED, moment
            assert [path.name for path in places.root.parent.iterdir()] == ["x"]
        else:
            assert texts(places.root) == OLD | MINE | KEPT, moment
    assert moment > 15


def test_nothing_is_settled_where_nothing_is_complete(places: Places, tmp_path: Path) -> None:
    (places.growing / ".overwrite.json").write_text('{"began_with": {}}')
    before = everything(tmp_path)
    settle(places)
    for damaged in ("{", '{"ours": 3}', '{"ours": null}', '{"ours": ["config.yaml", 3]}', '{"ours": [""]}'):
        (places.growing / ".overwrite.json").write_text(damaged)
        settle(places)
    (places.growing / ".overwrite.json").write_text('{"began_with": {}}')
    assert everything(tmp_path) == before


def half_exchanged(places: Places) -> None:
    """As a kill leaves it between the two renames."""
    write(places.growing, {".overwrite.json": '{"ours": ["config.yaml", "search", ".overwrite.json"]}'})
    places.root.rename(places.old)


def test_a_command_that_reads_ends_an_exchange_unless_another_holds_the_folder(places: Places) -> None:
    half_exchanged(places)
    with locked(places.root):
        settle_if_free(places.root)
        assert not places.root.exists()
    settle_if_free(places.root)
    assert (places.root / "config.yaml").read_text() == "new"
    assert not places.complete


def test_a_link_is_kept_and_the_folder_behind_it_is_replaced(places: Places, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(places.root)
    put(Places.of(link))
    assert link.is_symlink()
    assert texts(link) == EXPECTED


def test_the_users_files_in_the_cells_of_a_study_are_kept(tmp_path: Path) -> None:
    places = Places.of(tmp_path / "study")
    cell = {"config.yaml": "old", "ranks.json": "old", "search/x": "old"}
    of_cells = {f"cells/{name}/{path}": text for name in ("a", "b") for path, text in cell.items()}
    mine = {"cells/a/notes.txt": "mine", "cells/a/wandb/run-1/x": "mine", "notes.txt": "mine"}
    write(places.root, of_cells | mine | {"report.html": "old", "cells/.a.lock": "old", "cells/b/.ranks.json.tmp": ""})
    new = {"cells/a/config.yaml": "new", "cells/a/wandb/run-2/x": "new", "report.html": "new"}
    write(places.growing, new)
    finish(places, StudyFolder(places.root).patterns())
    assert texts(places.root) == new | mine


def test_a_link_of_the_users_is_moved_and_not_followed(places: Places, tmp_path: Path) -> None:
    write(tmp_path / "far", {"precious": "mine"})
    link = places.root / "linked"
    link.symlink_to(tmp_path / "far")
    (places.root / "merged" / "also").symlink_to(tmp_path / "far")
    put(places)
    assert (places.root / "linked").is_symlink()
    assert (tmp_path / "far" / "precious").read_text() == "mine"
