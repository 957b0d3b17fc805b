"""Verdicts whose truth is known by construction, with real training: a change in two of several branches, and copies
of one layer among which no place can matter."""

from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from autolora.engine.cut.basis import kept_within, parameters_of
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.retrain.controls import shuffled
from autolora.engine.retrain.methods.lora import start_in_common
from autolora.engine.verdict.arms import LEARNED, SHUFFLED
from autolora.engine.verdict.judge import PLANS, Pairs, first_ending
from autolora.engine.verdict.record import PairLosses
from autolora.problems.models.attach import lora_layers
from tests.helpers import branches

BRANCHES, NEEDED, ROWS = 6, (1, 4), 1000
STEPS = 20


def losses_of(base: dict[str, Tensor], record: RankRecord, inputs: Tensor, labels: Tensor, seed: int) -> np.ndarray:
    """The loss of each held-out row after plain LoRA at these ranks, drawn in common."""
    torch.manual_seed(seed)
    model: Any = branches.Branches(BRANCHES)
    model.load_state_dict(base)
    kept = record.kept
    config = LoraConfig(r=1, lora_alpha=1, target_modules=list(kept), rank_pattern=kept, alpha_pattern=kept)
    peft: Any = get_peft_model(model, config)
    start_in_common(peft, seed)
    torch.manual_seed(seed)
    branches.train(peft, inputs[: ROWS // 2], labels[: ROWS // 2], STEPS)
    with torch.no_grad():
        logits = peft(x=inputs[ROWS // 2 :]).logits
    return nn.functional.cross_entropy(logits, labels[ROWS // 2 :], reduction="none").double().numpy()


def judged(record: RankRecord, base: dict[str, Tensor], inputs: Tensor, labels: Tensor, first_seed: int) -> str:
    """The ending of a verdict on these ranks by the program's own arithmetic; the untrained base is the head alone."""
    losses: dict[str, list[np.ndarray]] = {LEARNED: [], SHUFFLED: []}
    sizes = dict.fromkeys(record.ranks, branches.HIDDEN + branches.WIDTH)
    untouched: Any = branches.Branches(BRANCHES)
    untouched.load_state_dict(base)
    with torch.no_grad():
        alone = nn.functional.cross_entropy(
            untouched(inputs[ROWS // 2 :]).logits, labels[ROWS // 2 :], reduction="none"
        ).double()

    def up_to(count: int) -> Pairs:
        for seed in range(first_seed + len(losses[LEARNED]), first_seed + count):
            losses[LEARNED].append(losses_of(base, record, inputs, labels, seed))
            losses[SHUFFLED].append(losses_of(base, shuffled(record, sizes, seed), inputs, labels, seed))
        arms = {arm: np.stack(rows) for arm, rows in losses.items()}
        rows = len(alone)
        return PairLosses(arms, np.ones(rows), np.arange(rows), alone.numpy()[None], {}).pairs(count)

    found = first_ending(PLANS[24], 24, up_to)
    return found[0] if found else "undecided"


def searched_ranks(model: PeftModel, inputs: Tensor, labels: Tensor) -> RankRecord:
    """Ranks by shares after plain LoRA of rank k on other rows, at an average rank of one third."""
    branches.train(model, inputs, labels)
    gated, passes = branches.gated(model), branches.passes_of(inputs, labels)
    shares = passes.shares(gated, passes.rows.folds(5), 1.0, 32, 5, 20)
    share, limit = shares.mean(), parameters_of(1 / 3, gated.sizes)
    taken = kept_within(share, gated.sizes, limit, share > shares.standard_error())
    ranks = taken.sum(dim=1).tolist()
    names = list(lora_layers(model))
    return RankRecord(4, tuple(LayerRank(name, rank) for name, rank in zip(names, ranks, strict=True)))


@pytest.mark.slow
def test_ranks_of_a_search_matter_where_two_branches_alone_need_them() -> None:
    model, inputs, labels = branches.planted(BRANCHES, NEEDED, 2 * ROWS, seed=0)
    base = {name: value.clone() for name, value in branches.Branches(BRANCHES).state_dict().items()}
    own: Any = model.get_base_model()
    for b in range(BRANCHES):
        base[f"branch.{b}.weight"] = own.branch[b].base_layer.weight.detach().clone()
        base[f"out.{b}.weight"] = own.out[b].weight.detach().clone()
    record = searched_ranks(model, inputs[ROWS:], labels[ROWS:])
    assert {layer.name for layer in record.layers if layer.rank} == {f"branch.{b}" for b in NEEDED}
    assert judged(record, base, inputs[:ROWS], labels[:ROWS], first_seed=100) == "matter"
