"""What is measured of whole searches: shares that add up for every kind of model, on D_val, and the
head alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import set_seed

from autolora.engine import measure_search, ranks
from autolora.engine.measure.passes import Passes
from autolora.problems.batches import Batches
from autolora.problems.models.layers import head_alone
from autolora.problems.rows import Rows
from tests.helpers.shell import words
from tests.helpers.stages import Stages

pytestmark = pytest.mark.trains

MEASURED = ("--measure.rows", "1000", "--measure.curve_budgets", "[1]")
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "parts of a fused layer": ("gpt2", ("--lora.target_modules", "[c_attn.q,c_attn.v]")),
    "llama, bf16": ("llama", ("--precision", "bf16")),
    "sigmoid, paper's gate": ("bert", ("--search.constraint", "sigmoid", "--search.gate", "paper")),
}


@pytest.mark.parametrize("case", list(CASES))
def test_every_layer_has_shares_that_add_up(new_run: Callable[..., Stages], case: str) -> None:
    kind, arguments = CASES[case]
    run = new_run(
        *MEASURED, "--search.steps", "12", "--task.train_rows", "40", *arguments, kind=kind
    )
    run.find_ranks()
    record = ranks.load(run.folder.ranks)
    evidence = record.evidence
    assert evidence is not None
    assert (evidence.rows, evidence.without) == (20, "head alone")
    assert evidence.share_total == pytest.approx(
        sum(sum(layer.share) for layer in record.layers), rel=1e-6
    )
    assert evidence.share_total == pytest.approx(
        sum(x.layer_share or 0.0 for x in record.layers), rel=1e-6
    )
    # Few steps: the gain is a few thousandths, and bf16 rounds it.
    assert evidence.share_total + evidence.head_share == pytest.approx(
        evidence.fall, rel=0.02, abs=5e-4 if "bf16" in case else 2e-4
    )
    assert (
        [point.at for point in evidence.rank_curve]
        == [point.at for point in evidence.plain_curve]
        == [1, 2, 4]
    )
    for layer in record.layers:
        assert (
            len(layer.share) == len(layer.share_standard_error) == len(layer.singular_values) == 4
        )
        assert list(layer.singular_values) == sorted(layer.singular_values, reverse=True)


def test_a_search_is_measured_on_d_val_and_the_head_alone_learns_on_d_tr(
    new_run: Callable[..., Stages], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On rows that W was trained on, LoRA and every rank would look better than they are."""

    class Seen(Exception):
        pass

    def seen(base: Any, d_tr: Rows, passes: Passes, *_: Any) -> Any:
        raise Seen(d_tr.examples["input_ids"][:], passes.rows.examples["input_ids"][:])

    run = new_run(*MEASURED, "--search.steps", "2", "--task.validation_share", "0.25")
    monkeypatch.setattr(measure_search, "train_head", seen)
    with pytest.raises(Seen) as found:
        run.find_ranks()
    expected = [rows.examples["input_ids"][:] for rows in run.split()]
    assert [len(rows) for rows in expected] == [48, 16]
    assert [sorted(rows) for rows in found.value.args] == [sorted(rows) for rows in expected]


def rows_of_classes(run: Stages, *counts: int) -> Rows:
    """So many training rows of each class."""
    labels = np.array(run.rows.train.examples["labels"])
    of_classes = [np.flatnonzero(labels == label)[:count] for label, count in enumerate(counts)]
    return run.rows.train.select(np.concatenate(of_classes))


def test_each_step_of_the_head_alone_is_adamws_on_its_own_batch(
    new_run: Callable[..., Stages],
) -> None:
    """A batch of eight rows and four, each part weighed by its labels. (Of equal parts AdamW would
    not see whether they are weighed.)"""
    given = words(
        "--search.steps 20 --search.learning_rate 0.03 --search.gradient_accumulation 2 "
        "--search.gradient_clipping 0.3"
    )
    run = new_run(*given, dropout=0.0)
    d_tr = rows_of_classes(run, 2, 10)
    settings = run.config.search
    # Judged on its own rows, whose loss falls, so that the last weights are kept.
    found, _ = run.train_head(d_tr, d_tr)
    set_seed(run.config.seed)
    model, weights = head_alone(run.base())
    model.train()
    optimizer = torch.optim.AdamW(
        weights, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    cpu = torch.device("cpu")
    seed = run.config.seed
    batches = Batches(d_tr, settings.batch_size, seed, cpu, parts=2)
    start = model.classifier.weight.detach().clone()
    for number in range(20):
        optimizer.zero_grad()
        parts = batches[number].parts
        assert [len(part["labels"]) for part, _ in parts] == [8, 4]
        for part, _ in parts:
            (len(part["labels"]) / 12 * model(**part).loss).backward()
        torch.nn.utils.clip_grad_norm_(weights, settings.gradient_clipping)
        optimizer.step()
    assert (found.classifier.weight - start).abs().max() > 1e-2
    torch.testing.assert_close(found.classifier.weight, model.classifier.weight, rtol=0, atol=1e-5)


def test_the_head_alone_keeps_its_best_weights_on_d_val_not_its_last(
    new_run: Callable[..., Stages],
) -> None:
    """D_val has the class that D_tr lacks, so that its loss rises from the first step on."""
    run = new_run("--search.steps", "20", "--search.learning_rate", "0.03", dropout=0.0)
    d_tr = rows_of_classes(run, 0, 12)
    d_val = rows_of_classes(run, 12)
    model, steps = run.train_head(d_tr, d_val)
    assert steps == 20
    set_seed(run.config.seed)
    start, _ = head_alone(run.base())
    assert torch.equal(model.classifier.weight, start.classifier.weight)
