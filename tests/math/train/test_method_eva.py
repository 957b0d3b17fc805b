"""EVA: the ranks and the start are those of PEFT's own initialisation."""

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import EvaConfig, LoraConfig, PeftModel, get_peft_model, initialize_lora_eva_weights

from autolora.engine.ranks import RankRecord
from autolora.problems.batches import epoch_batches
from autolora.problems.models.attach import lora_layers
from tests.contract.inputs import E2E, language_arguments
from tests.helpers.command import parse
from tests.helpers.generation_toys import save_causal, write_e2e
from tests.helpers.methods import K, scales_of
from tests.helpers.stages import Stages

R = 2
RHO = 2.0
EVA = ("--method", "eva", "--lora.r", str(R), "--lora.rho", str(RHO))


def of_peft(run: Stages, record: RankRecord, keep: tuple[str, ...]) -> PeftModel:
    """PEFT's initialisation by its own defaults, on all training rows; `keep`: what of a batch it
    is given."""
    base = run.base()
    settings = LoraConfig(
        r=R,
        lora_alpha=16,
        target_modules=sorted(record.ranks),
        init_lora_weights="eva",
        eva_config=EvaConfig(rho=RHO),
        task_type=run.inputs.task.peft_type,
    )
    model = get_peft_model(base.model, settings)
    data = run.rows.train
    size = run.config.retrain.batch_size
    order = epoch_batches(data.lengths, size, run.config.seed, 0, short_last=True)
    assert sorted(chain.from_iterable(order)) == list(range(len(data))), (
        "all rows, also those of D_val"
    )
    batches = [data.batch(numbers) for numbers in order]
    rows = [{name: value for name, value in batch.items() if name in keep} for batch in batches]
    initialize_lora_eva_weights(model, rows, show_progress_bar=False)
    return model


def compare(mine: PeftModel, theirs: PeftModel) -> None:
    found = lora_layers(mine)
    expected = lora_layers(theirs)
    assert found.keys() == expected.keys()
    assert len({layer.r["default"] for layer in found.values()}) > 1, "the ranks differ"
    for name, layer in found.items():
        own: Any = layer.lora_A["default"].weight
        assert torch.equal(own, expected[name].lora_A["default"].weight), name
        assert not layer.lora_B["default"].weight.any()


@pytest.mark.trains
def test_ranks_and_start_are_those_of_peft(new_run: Callable[..., Stages]) -> None:
    run = new_run(*EVA, "--lora.target_modules", "all-linear")
    prepared: Any = run.prepared()
    mine = prepared.model
    record = prepared.record
    # Given labels, one for each row, PEFT's mask of tokens would be another.
    compare(mine, of_peft(run, record, ("input_ids", "attention_mask", "token_type_ids")))
    assert record.rule == "eva"
    assert sum(layer.rank for layer in record.layers) == R * len(record.layers), (
        "the budget is one of ranks"
    )
    assert max(layer.rank for layer in record.layers) <= R * RHO
    scale = 16 / (K * record.mean_kept_rank) ** 0.5  # of mean_rank
    assert scales_of(mine) == pytest.approx(dict.fromkeys(record.kept, scale), rel=1e-12)


@pytest.mark.trains
def test_of_a_language_model_no_prompt_counts(
    tmp_path: Path, run_of: Callable[..., Stages]
) -> None:
    model = save_causal(tmp_path / "model", "llama")
    data = write_e2e(tmp_path / "data")
    more = {**E2E, "lora__target_modules": "[q_proj,o_proj,down_proj]"}
    argv = [*language_arguments(model, data, tmp_path / "runs", **more), *EVA]
    run = run_of(parse(argv).config)
    prepared: Any = run.prepared()
    mine = prepared.model
    record = prepared.record
    compare(mine, of_peft(run, record, ("input_ids", "attention_mask", "labels")))
