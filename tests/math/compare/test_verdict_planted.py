"""Verdicts whose truth is known by construction, with real training: a change in two of several
branches, and copies of one layer among which no place can matter."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from autolora.engine.measure.bases import kept_within, parameters_of
from autolora.engine.measure.shares import integrate
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.retrain.controls import shuffled
from autolora.engine.retrain.methods.lora import start_in_common
from autolora.engine.verdict.arms import LEARNED, SHUFFLED
from autolora.engine.verdict.judge import PLANS, Pairs, first_ending
from autolora.engine.verdict.record import PairLosses
from autolora.problems.models.attach import lora_layers
from tests.helpers import branches

BRANCHES = 6
NEEDED = (1, 4)
ROWS = 1000
STEPS = 20


def losses_of(model: nn.Module, inputs: Tensor, labels: Tensor) -> np.ndarray:
    """The loss of each held-out row."""
    with torch.no_grad():
        logits = model(x=inputs[ROWS // 2 :]).logits
    return (
        nn.functional.cross_entropy(logits, labels[ROWS // 2 :], reduction="none").double().numpy()
    )


def trained(
    base: nn.Module, record: RankRecord, inputs: Tensor, labels: Tensor, seed: int
) -> np.ndarray:
    """The losses after plain LoRA at these ranks, drawn in common."""
    kept = record.kept
    config = LoraConfig(
        r=1, lora_alpha=1, target_modules=list(kept), rank_pattern=kept, alpha_pattern=kept
    )
    model: Any = get_peft_model(copy.deepcopy(base), config)  # type: ignore[arg-type]
    start_in_common(model, seed)
    branches.train(model, inputs[: ROWS // 2], labels[: ROWS // 2], STEPS)
    return losses_of(model, inputs, labels)


def judged(
    record: RankRecord, base: nn.Module, inputs: Tensor, labels: Tensor, first_seed: int
) -> str:
    """The ending of a verdict on these ranks by the program's own arithmetic; the untrained base is
    the head alone."""
    losses: dict[str, list[np.ndarray]] = {LEARNED: [], SHUFFLED: []}
    sizes = dict.fromkeys(record.ranks, branches.HIDDEN + branches.WIDTH)
    alone = losses_of(base, inputs, labels)

    def up_to(count: int) -> Pairs:
        for seed in range(first_seed + len(losses[LEARNED]), first_seed + count):
            for arm, ranks in ((LEARNED, record), (SHUFFLED, shuffled(record, sizes, seed))):
                losses[arm].append(trained(base, ranks, inputs, labels, seed))
        arms = {arm: np.stack(rows) for arm, rows in losses.items()}
        return PairLosses(arms, np.ones(len(alone)), np.arange(len(alone)), alone[None], {}).pairs(
            count
        )

    found = first_ending(PLANS[24], 24, up_to)
    return found[0] if found else "undecided"


def searched_ranks(model: PeftModel, inputs: Tensor, labels: Tensor) -> RankRecord:
    """Ranks by shares after plain LoRA of rank k on other rows, at an average rank of one third."""
    branches.train(model, inputs, labels)
    lora = branches.lora_of(model)
    passes = branches.passes_of(inputs, labels)
    shares = integrate(lora, passes, passes.rows.folds(5), 1.0, 32, 5, 20)
    share = shares.mean()
    limit = parameters_of(1 / 3, lora.sizes)
    taken = kept_within(share, lora.sizes, limit, share > shares.standard_error())
    ranks = taken.sum(dim=1).tolist()
    names = list(lora_layers(model))
    return RankRecord(
        4, tuple(LayerRank(name, rank) for name, rank in zip(names, ranks, strict=True))
    )


@pytest.mark.slow
def test_ranks_of_a_search_matter_where_two_branches_alone_need_them() -> None:
    model, inputs, labels = branches.planted(BRANCHES, NEEDED, 2 * ROWS, seed=0)
    base = copy.deepcopy(model).unload()
    record = searched_ranks(model, inputs[ROWS:], labels[ROWS:])
    assert {layer.name for layer in record.layers if layer.rank} == {f"branch.{b}" for b in NEEDED}
    assert judged(record, base, inputs[:ROWS], labels[:ROWS], first_seed=100) == "matter"
