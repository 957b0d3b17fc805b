"""LoRA at ranks that no search of this run found: which they are, and that PEFT alone gives the run's logits."""

import json
from collections.abc import Callable

import pytest
import torch
from peft import PeftModel

from autolora.engine import ranks
from tests.helpers.exports import of_mean_rank
from tests.helpers.methods import LEARNED, NAMES, Done, K, R


@pytest.mark.trains
@pytest.mark.parametrize("method", ["lora", "lora_shuffled", "lora_random", "adalora", "eva", "para"])
def test_plain_peft_gives_the_runs_logits_at_one_scale_in_all_layers(done: Callable[..., Done], method: str) -> None:
    run = done(method)
    model = PeftModel.from_pretrained(run.plain_base(), run.folder.adapter)
    torch.testing.assert_close(run.logits_of(model), run.logits, rtol=1e-5, atol=1e-6)
    assert run.logits.std() > 1e-3
    settings = json.loads((run.folder.adapter / "adapter_config.json").read_text())
    assert settings["peft_type"] == "LORA"
    kept = ranks.load(run.folder.ranks).kept
    found = {name: settings["alpha_pattern"].get(name, settings["lora_alpha"]) / rank for name, rank in kept.items()}
    assert found == of_mean_rank(kept, 6, K)
    assert {name: settings["rank_pattern"].get(name, settings["r"]) for name in kept} == kept
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            parameter.data.zero_()
    assert not torch.allclose(run.logits_of(model), run.logits, atol=1e-5), "LoRA does something"


@pytest.mark.trains
def test_uniform_ranks(done: Callable[..., Done]) -> None:
    record = ranks.load(done("lora").folder.ranks)
    assert (record.rule, record.k) == ("uniform", K)
    assert [(x.name, x.rank, x.alpha, x.contribution) for x in record.layers] == [(n, R, (), ()) for n in NAMES]


@pytest.mark.trains
def test_shuffled_ranks_are_the_learned_ones_in_other_places(done: Callable[..., Done]) -> None:
    record = ranks.load(done("lora_shuffled").folder.ranks)
    found = [layer.rank for layer in record.layers]
    assert record.rule == "shuffled"
    assert [layer.name for layer in record.layers] == NAMES
    assert sorted(found) == sorted(LEARNED)
    assert found != LEARNED
