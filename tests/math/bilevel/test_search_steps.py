"""The search: what moves, what stays, at which rates, and when it ends."""

from collections.abc import Callable

import pytest
import torch

from autolora.engine.search.engine import SearchEngine
from tests.helpers.shell import words
from tests.helpers.stages import Stages

Build = Callable[..., SearchEngine]


@pytest.mark.parametrize("dropout", [True, False])
def test_search_dropout_switches_the_models_dropout(built: Build, dropout: bool) -> None:
    engine = built("--search.dropout", str(dropout).lower())
    engine.train()
    batch = engine.lora.batches[0].parts[0][0]
    first, second = (engine.lora.training_step(batch).item() for _ in range(2))
    assert (first != second) is dropout


@pytest.mark.trains
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_the_search_learns_both_levels_and_leaves_the_base_alone(built: Build, kind: str) -> None:
    rows = words(
        "--task.train_rows 16 --search.steps 40 --search.warmup_ratio 0 --search.patience 0"
    )
    engine = built(*rows, "--search.learning_rate", "2e-2", kind=kind, dropout=0.0)
    batch = engine.lora.batches[0].parts[0][0]

    def loss() -> float:
        engine.lora.module.eval()
        with torch.no_grad():
            return float(engine.lora.training_step(batch))

    before = {name: p.detach().clone() for name, p in engine.lora.module.named_parameters()}
    at_start = loss()
    engine.run()
    assert loss() < 0.7 * at_start
    for name, parameter in engine.lora.module.named_parameters():
        assert torch.equal(parameter, before[name]) is not parameter.requires_grad, name
    alpha = engine.alpha()
    torch.testing.assert_close(alpha.sum(dim=1), torch.ones(len(alpha)))
    assert (alpha - 1 / engine.lora.gates.k).abs().amax(dim=1).min() > 1e-3, (
        "alpha of every layer leaves the start"
    )
    assert engine.global_step == 40


def test_both_halves_of_the_rows_are_used_each_for_its_problem(
    new_run: Callable[..., Stages],
) -> None:
    run = new_run("--task.validation_share", "0.25")
    engine = run.engine()
    d_tr, d_val = (problem.batches.rows for problem in (engine.lora, engine.selection))
    assert (len(d_tr), len(d_val)) == (48, 16)
    assert engine.lora.batches.seed != engine.selection.batches.seed, (
        "the two must not walk in step"
    )
    searched = [*d_tr.examples["input_ids"], *d_val.examples["input_ids"]]
    assert sorted(searched) == sorted(run.rows.train.examples["input_ids"])


def test_contribution_is_the_size_of_alpha_times_that_of_the_component(built: Build) -> None:
    engine = built("--search.constraint", "none")
    a, b = engine.lora.gates.factors()[0]
    with torch.no_grad():
        b.normal_()
        engine.selection.module.beta[0, 0] = -2.0
    for j in range(4):
        size = torch.outer(b[:, j], a[j]).norm() * engine.alpha()[0, j].abs()
        assert engine.contribution()[0, j].item() == pytest.approx(size.item(), rel=1e-5)


def test_ranks_have_settled_after_patience_checks_without_a_change(
    built: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = iter([[4, 4], [4, 3], [4, 3], [3, 4], [3, 4], [3, 4], *[[3, 4]] * 4])
    engine = built("--search.check_every", "2", "--search.patience", "2")
    monkeypatch.setattr(engine, "ranks", lambda: next(checks))
    found = []
    for step in range(1, 13):
        engine.global_step = step
        found.append(engine.settled())
    assert found == [False] * 11 + [True]
    engine.patience = 0
    assert not engine.settled(), "0 says never"


def test_both_problems_are_told_what_is_configured(built: Build) -> None:
    given = words("--hypergradient.type darts --hypergradient.eta 0.7 --hypergradient.radius 0.03")
    given += ("--search.unroll_steps", "2", "--search.gate", "paper")
    given += ("--search.gradient_clipping", "0.25", "--search.learning_rate", "0.01")
    given += ("--search.selection_learning_rate", "0.07")
    given += ("--search.batch_size", "4", "--search.gradient_accumulation", "3")
    engine = built(*given, "--search.weight_decay", "0.3")
    lora = engine.lora
    selection = engine.selection
    told = lora.config
    (w, beta) = (problem.optimizer.param_groups[0] for problem in (lora, selection))
    read = selection.hypergradient.settings
    assert (read.eta, read.radius, told.unroll_steps, told.gradient_clipping) == (
        0.7,
        0.03,
        2,
        0.25,
    )
    assert (w["initial_lr"], beta["lr"]) == (0.01, 0.07)
    assert (w["weight_decay"], beta["weight_decay"]) == (0.3, 0.0), (
        "decay would pull alpha back to uniform"
    )
    assert torch.equal(selection.module(), selection.module.alpha()), (
        "by the paper a gate is alpha itself"
    )
    assert [len(part["labels"]) for part, _ in lora.batches[0].parts] == [4, 4, 4], (
        "parts of one large batch"
    )


@pytest.mark.trains
@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [("constant", [0.5, 1, 1, 1, 1, 1]), ("linear", [0.5, 1, 0.75, 0.5, 0.25, 0])],
)
def test_the_rate_of_w_warms_up_and_follows_its_schedule_over_inner_steps_whatever_the_unroll(
    built: Build, scheduler: str, expected: list[float]
) -> None:
    given = words("--search.steps 6 --search.warmup_ratio 0.34 --search.learning_rate 0.01")
    engine = built(*given, "--search.scheduler", scheduler, "--search.unroll_steps", "2")
    rates: list[float] = []
    assert engine.lora.optimizer.param_groups[0]["lr"] == 0
    engine.run(
        lambda searching, over: rates.append(searching.lora.optimizer.param_groups[0]["lr"] / 0.01)
    )
    assert rates == pytest.approx(expected)


@pytest.mark.trains
@pytest.mark.parametrize(
    ("kind", "method"), [("bert", "darts"), ("gpt2", "forward_difference"), ("llama", "sama")]
)
def test_blocks_that_are_computed_again_give_the_same_steps_bit_for_bit(
    built: Build, kind: str, method: str
) -> None:
    """Gates and dropout masks of the second pass are those of the first, also where gates differ in
    between."""
    given = ("--hypergradient.type", method, "--search.warmup_ratio", "0", "--search.steps", "4")
    found = []
    for again in ("false", "true"):
        engine = built(*given, "--model.gradient_checkpointing", again, kind=kind, dropout=0.1)
        engine.run()
        found.append([engine.alpha(), engine.selection.implicit, *engine.lora.trained])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert (found[0][0] - 0.25).abs().max() > 1e-3
