"""The pictures of a study."""

from pathlib import Path

import pandas as pd
import pytest

from engine import ranks
from engine.ranks import LayerRank, RankRecord
from engine.run.folder import RunFolder
from engine.study.folder import StudyFolder
from engine.study.pictures import draw


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
