"""The pictures of a study."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from autolora.engine import ranks
from autolora.engine.disk.files import write_text
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.run.folder import RunFolder
from autolora.engine.study.comparison import Comparison
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.pictures import draw


@pytest.mark.filterwarnings("ignore:Glyph")
def test_tasks_whose_names_share_their_plain_letters_have_rank_maps_of_their_own(tmp_path: Path) -> None:
    """Two tasks with names in Chinese had one file, so that both showed the ranks of the second."""
    folder = StudyFolder(tmp_path)
    folder.figures.mkdir()
    tasks = ["情感", "主题", "a b", "a-b"]
    for number, task in enumerate(tasks):
        record = RankRecord(4, (LayerRank("layer.0.query", number), LayerRank("layer.1.query", 4)))
        ranks.save(record, RunFolder(folder.cells / task).ranks)
    rows = {"task": tasks, "cell": tasks, "method": "autolora", "main_metric": "accuracy", "score": 0.5, "seed": 0}
    maps = draw(pd.DataFrame(rows), ["seed"], None, folder)
    del maps["metric"]
    assert list(maps) == [f"ranks of {task}: {task}" for task in tasks]
    assert len({path.read_bytes() for path in maps.values()}) == len(tasks)


def compared(names: Sequence[str]) -> tuple[pd.DataFrame, Comparison]:
    """A study whose variants are searched by these approximations, and its comparison."""
    rows = [(f"variant {place}", name, 0.5) for place, name in enumerate(names)]
    results = pd.DataFrame(rows, columns=["variant", "searched_by", "score"])
    same = {"task": "t", "main_metric": "f1", "method": "lora", "options": "{}", "outer_loss": 0.3, "cell": "c"}
    points = [{"step": 1, "approximation": name, "eta": "lr", "cosine": 1.0} for name in names]
    cost = pd.DataFrame({"approximation": ["darts", "cg"], "ratio_to_lora": [4.0, 9.0]})
    return results.assign(**same), Comparison(pd.DataFrame(points), cost)


@pytest.mark.parametrize(("names", "drawn"), [(["darts", "cg"], True), (["darts", "darts"], False)])
def test_variants_with_several_approximations_are_drawn_against_their_cost(
    names: list[str], drawn: bool, tmp_path: Path
) -> None:
    """Only studies with the axis hypergradient.type had these pictures."""
    results, comparison = compared(names)
    (tmp_path / "figures").mkdir()
    pictures = draw(results, ["variant"], comparison, StudyFolder(tmp_path))
    assert ({"metric_against_cost", "outer_loss_against_cost"} <= pictures.keys()) == drawn


@pytest.mark.parametrize(("names", "drawn"), [(["darts", "cg"], True), (["darts", "darts"], False)])
def test_the_loss_over_the_passes_needs_several_approximations_but_no_comparison(
    names: list[str], drawn: bool, tmp_path: Path
) -> None:
    folder, (results, _) = StudyFolder(tmp_path), compared(names)
    folder.figures.mkdir()
    for cell in "ab":
        write_text(
            RunFolder(folder.cells / cell).search_metrics,
            '{"step": 1, "val_loss": 0.5, "forward_passes": 2, "backward_passes": 2}\n',
        )
    searched = results.assign(cell=["a", "b"], search_forward_passes=2.0)
    pictures = draw(searched, ["variant"], None, folder)
    assert ("outer_loss_over_passes" in pictures) == drawn
    assert "outer_loss_over_passes" not in draw(results, ["variant"], None, folder), "copied searches"
