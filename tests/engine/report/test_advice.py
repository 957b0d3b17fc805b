"""What a verdict recommends after the run has been trained, or its ranks edited."""

from pathlib import Path

import pytest

from autolora.engine import ranks
from autolora.engine.disk.files import write_json
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.report.advice import advice_of
from autolora.engine.run.folder import RunFolder

pytestmark = pytest.mark.unit

MATTER = {"ending": "matter", "recommendation": "Use these ranks: python run.py --config c.yaml --stage retrain"}


def test_the_retraining_is_recommended_until_it_is_done_and_the_verdict_until_the_ranks_are_edited(
    tmp_path: Path,
) -> None:
    folder = RunFolder(tmp_path)
    assert advice_of(MATTER, folder) == MATTER["recommendation"]
    judged = RankRecord(4, (LayerRank("a", 1), LayerRank("b", 3)))
    for path in (folder.ranks, folder.verdict / "ranks.json"):
        ranks.save(judged, path)
    assert advice_of(MATTER, folder) == MATTER["recommendation"]
    write_json(folder.adapter / "adapter_config.json", {"rank_pattern": {"a": 1, "b": 3}})
    assert advice_of(MATTER, folder).endswith(f"adapter is trained at them, and {folder.ranks} has them.")
    equal = {"ending": "equal", "recommendation": "Choose by cost alone."}
    assert advice_of(equal, folder) == "Choose by cost alone."
    ranks.save(RankRecord(4, (LayerRank("a", 2), LayerRank("b", 3))), folder.ranks)
    assert advice_of(equal, folder).startswith("This verdict is about other ranks than those that ")
