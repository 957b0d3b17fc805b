"""Where a verdict's files lie: inside the run's own folder, so that --overwrite and a move take them along."""

from pathlib import Path

from autolora.engine.disk.paths import misplaced
from autolora.engine.run.folder import RunFolder
from autolora.engine.verdict.folder import VerdictFolder


def test_all_of_it_lies_in_the_folder_that_a_search_replaces() -> None:
    run = RunFolder(Path("runs/a"))
    place = VerdictFolder(run.verdict)
    assert [place.ranks, place.plan, place.data] == [run.verdict / f"{n}.json" for n in ("ranks", "plan", "data")]
    assert place.cells == run.verdict / "cells"
    assert run.verdict in run.outputs("search")
    assert run.verdict not in run.outputs("retrain"), "another retraining leaves the verdict about these ranks"


def test_a_file_in_place_of_the_cells_is_found(tmp_path: Path) -> None:
    place = VerdictFolder(tmp_path)
    assert not list(misplaced(place))
    place.cells.touch()
    place.data.mkdir()
    assert sorted(misplaced(place)) == [(place.cells, "folder"), (place.data, "file")]
