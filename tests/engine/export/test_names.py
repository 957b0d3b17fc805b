"""File names of an adapter, and whether it has the recorded ranks."""

import subprocess
import sys
from pathlib import Path

import pytest

from autolora.engine.disk.files import write_json
from autolora.engine.export.names import ADAPTER_CONFIG, ADAPTER_WEIGHTS, trained_at
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.run.folder import RunFolder
from tests.helpers.finished import RESULT
from tests.helpers.places import ROOT


def record_of(**ranks: int) -> RankRecord:
    return RankRecord(8, tuple(LayerRank(name.replace("__", "."), rank) for name, rank in ranks.items()))


def test_ranks_of_parts_whose_sum_stayed_are_other_ranks(tmp_path: Path) -> None:
    """The adapter knows only the sum over the parts of a fused layer."""
    run, trained = RunFolder(tmp_path), record_of(a__c_attn__q=2, a__c_attn__v=1)
    write_json(run.adapter / ADAPTER_CONFIG, {"rank_pattern": {"a.c_attn": 3}})
    write_json(run.metrics, RESULT | {"trained_ranks": trained.kept})
    assert trained_at(trained, run)
    assert not trained_at(record_of(a__c_attn__q=1, a__c_attn__v=2), run)
    assert not trained_at(record_of(a__c_attn__q=1, a__c_attn__v=3), run)
    write_json(run.metrics, RESULT)
    assert trained_at(trained, run)


def test_the_names_are_those_that_peft_writes() -> None:
    from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME

    assert (ADAPTER_CONFIG, ADAPTER_WEIGHTS) == (CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME)


@pytest.mark.trains  # a process of its own
def test_peft_is_not_imported_for_them() -> None:
    code = "import sys, engine.export.names; sys.exit('peft' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
