"""The warning about ranks that a LoraConfig cannot express."""

import subprocess
import sys

import pytest

from autolora.engine.export.names import ADAPTER_CONFIG, ADAPTER_WEIGHTS, what_parts_lose
from autolora.engine.ranks import LayerRank, RankRecord
from tests.helpers.places import ROOT


def record_of(**ranks: int) -> RankRecord:
    return RankRecord(8, tuple(LayerRank(name.replace("__", "."), rank) for name, rank in ranks.items()))


def test_ranks_of_whole_layers_lose_nothing() -> None:
    assert what_parts_lose(record_of(h__0__attn__c_attn=3, h__0__mlp__c_fc=2)) == ""


def test_a_part_of_rank_0_loses_nothing() -> None:
    """Its layer has no LoRA."""
    assert what_parts_lose(record_of(h__0__attn__c_attn__q=0, h__0__mlp__c_fc=2)) == ""


def test_the_parts_of_the_first_layer_that_has_some_are_the_example() -> None:
    said = what_parts_lose(
        record_of(
            h__0__attn__c_attn__q=0, h__0__mlp__c_fc=4, h__1__attn__c_attn__q=3, h__1__attn__c_attn__v=2,
            h__2__attn__c_attn__v=7,
        )
    )  # fmt: skip
    assert "(in h.1.attn.c_attn q 3 + v 2 = rank 5)" in said
    assert "h.2" not in said


def test_a_single_part_of_a_layer_is_warned_of_too() -> None:
    assert "q 2 = rank 2" in what_parts_lose(record_of(h__0__attn__c_attn__q=2))


def test_the_names_are_those_that_peft_writes() -> None:
    from peft.utils import CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME

    assert (ADAPTER_CONFIG, ADAPTER_WEIGHTS) == (CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME)


@pytest.mark.trains  # a process of its own
def test_peft_is_not_imported_for_them() -> None:
    code = "import sys, engine.export.names; sys.exit('peft' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
