"""What a study writes is what an overwrite takes away, and nothing else."""

from pathlib import Path

from autolora.engine.disk.files import write_text
from autolora.engine.disk.paths import At
from autolora.engine.run.folder import RunFolder
from autolora.engine.study.folder import StudyFolder


def test_every_place_of_a_study_is_among_its_outputs() -> None:
    folder = StudyFolder(Path("runs") / "x")
    places = {getattr(folder, name) for name, kind in vars(StudyFolder).items() if isinstance(kind, At)}
    assert set(folder.outputs()) == places - {folder.wandb}, "in wandb's folder each run is kept apart"
    assert all(path.parent == folder.root for path in places)


def test_an_overwrite_says_that_it_removes_verdicts(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    assert folder.also_lost("all") == ""
    for name in ("seed-0", "seed-1"):
        cell = RunFolder(folder.cells / name)
        write_text(cell.config, "")
        write_text(cell.verdict_summary, "{}")
    assert folder.also_lost("all") == "verdicts on 2 cells"
    assert folder.also_lost("report") == "", "it is drawn from the cells, which stay"


def test_what_a_report_is_made_of_is_none_of_its_outputs() -> None:
    """`--stage report --overwrite` took every cell away."""
    folder = StudyFolder(Path("runs") / "x")
    drawn = set(folder.outputs("report"))
    assert not drawn & {folder.cells, folder.config, folder.probe, folder.cost, folder.wandb_id}
    assert {folder.results, folder.table, folder.report} < drawn < set(folder.outputs())
