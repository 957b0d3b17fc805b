"""The search: what moves, what stays, at which rates, and when it ends."""

from collections.abc import Callable

import pytest
import torch
from transformers import get_scheduler

from autolora.configs.schema import RunConfig
from autolora.engine.run.context import Context
from autolora.engine.search.search import SearchEngine, build_search
from autolora.problems.models.attach import lora_layers


def built(run: Context) -> SearchEngine:
    return build_search(run, second_order=run.searched.second_order)


def mean_loss(engine: SearchEngine, batches: list[dict[str, torch.Tensor]]) -> float:
    engine.lora.module.eval()
    with torch.no_grad():
        values = [engine.lora.training_step(batch).item() for batch in batches]
    return sum(values) / len(values)


@pytest.mark.trains
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_the_search_learns_both_levels_and_leaves_the_base_alone(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], kind: str
) -> None:
    rows = ("--task.train_rows", "16", "--search.steps", "40", "--search.warmup_ratio", "0", "--search.patience", "0")
    config = tiny_config(*rows, "--search.learning_rate", "2e-2", kind=kind, dropout=0.0)
    engine = built(run_of(config))
    model = engine.lora.module
    loader = engine.lora.batches
    batch = loader.collate([loader.rows[i] for i in range(8)])
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    loss = mean_loss(engine, [batch])
    engine.run()
    assert mean_loss(engine, [batch]) < 0.7 * loss
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) is not parameter.requires_grad, name
    alpha = engine.alpha()
    torch.testing.assert_close(alpha.sum(dim=1), torch.ones(len(alpha)))
    assert (alpha - 1 / config.lora.k).abs().amax(dim=1).min() > 1e-3, "alpha of every layer leaves the start"
    assert engine.global_step == 40


def test_both_halves_of_the_rows_are_used_each_for_its_problem(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    config = tiny_config("--task.validation_share", "0.25")
    run = run_of(config)
    engine = built(run)
    d_tr, d_val = (problem.batches.rows for problem in (engine.lora, engine.selection))
    assert (len(d_tr), len(d_val)) == (48, 16)
    orders = [problem.batches.order for problem in (engine.lora, engine.selection)]
    orders[1].lengths = orders[0].lengths
    assert orders[0].batches(0) != orders[1].batches(0), "the two must not walk in step"
    key = str
    assert sorted(map(key, [*d_tr["input_ids"], *d_val["input_ids"]])) == sorted(map(key, run.data.train["input_ids"]))


@pytest.mark.trains
def test_contribution_is_alpha_times_the_size_of_the_component(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    engine = built(run_of(tiny_config("--search.steps", "2", "--search.constraint", "none")))
    engine.run()
    with torch.no_grad():
        engine.selection.module.beta[0, 0] = -2.0
    layer = next(iter(lora_layers(engine.lora.module).values()))
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    for j in range(4):
        size = torch.outer(b[:, j], a[j]).norm() * engine.alpha()[0, j].abs()
        assert engine.contribution()[0, j].item() == pytest.approx(size.item(), rel=1e-5)


def test_ranks_have_settled_after_patience_checks_without_a_change(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = iter([[4, 4], [4, 3], [4, 3], [3, 4], [3, 4], [3, 4], *[[3, 4]] * 4])
    engine = built(run_of(tiny_config("--search.check_every", "2", "--search.patience", "2")))
    monkeypatch.setattr(engine, "ranks", lambda: next(checks))
    found = []
    for step in range(1, 13):
        engine.global_step = step
        found.append(engine.settled())
    assert found == [False] * 11 + [True]
    engine.patience = 0
    assert not engine.settled(), "0 says never"


def test_a_search_that_fails_leaves_no_gates(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    engine = built(run_of(tiny_config()))

    def after_step(searching: SearchEngine, over: bool) -> None:
        assert searching.lora.gates.values is not None
        raise MemoryError

    with pytest.raises(MemoryError):
        engine.run(after_step)
    assert engine.lora.gates.values is None


def test_both_problems_are_told_what_is_configured(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    given = ("--hypergradient.type", "darts", "--hypergradient.eta", "0.7", "--hypergradient.radius", "0.03")
    given += ("--search.unroll_steps", "2", "--search.gate", "paper")
    given += ("--search.gradient_clipping", "0.25", "--search.learning_rate", "0.01")
    given += ("--search.selection_learning_rate", "0.07")
    engine = built(run_of(tiny_config(*given, "--search.weight_decay", "0.3")))
    lora, selection = engine.lora, engine.selection
    told, (w, beta) = lora.config, (problem.optimizer.param_groups[0] for problem in (lora, selection))
    read = selection.hypergradient.settings
    assert (read.eta, read.radius, told.unroll_steps, told.gradient_clipping) == (0.7, 0.03, 2, 0.25)
    assert (w["initial_lr"], beta["lr"]) == (0.01, 0.07)
    assert (w["weight_decay"], beta["weight_decay"]) == (0.3, 0.0), "decay would pull alpha back to uniform"
    assert torch.equal(selection.module(), selection.module.alpha()), "by the paper a gate is alpha itself"


@pytest.mark.trains
@pytest.mark.parametrize("method", ["first_order", "exact"])
def test_accumulated_batches_search_as_the_large_batch_does(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], method: str
) -> None:
    """Parts are padded to their own longest rows, which changes nothing but rounding."""
    given = ("--hypergradient.type", method, "--search.steps", "4", "--search.warmup_ratio", "0")
    searched = []
    for batch, parts in ((16, 1), (4, 4)):
        sizes = ("--search.batch_size", str(batch), "--search.gradient_accumulation", str(parts))
        engine = built(run_of(tiny_config(*given, *sizes, dropout=0.0)))
        engine.run()
        searched.append(engine)
    large, small = searched
    torch.testing.assert_close(small.alpha(), large.alpha(), rtol=0, atol=1e-4)
    assert (large.alpha() - 0.25).abs().max() > 1e-3
    for one, other in zip(small.lora.trained, large.lora.trained, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-3)


FALLING = [(8 - step) / 8 for step in range(8)]


@pytest.mark.parametrize(("scheduler", "after"), [("constant", [1.0] * 8), ("linear", FALLING)])
def test_the_rate_of_w_warms_up_and_follows_its_schedule(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], scheduler: str, after: list[float]
) -> None:
    given = ("--search.steps", "10", "--search.warmup_ratio", "0.2", "--search.learning_rate", "0.5")
    lora = built(run_of(tiny_config(*given, "--search.scheduler", scheduler))).lora
    rates = []
    for _ in range(10):
        rates.append(lora.optimizer.param_groups[0]["lr"] / 0.5)
        lora.optimizer.step()
        lora.scheduler.step()
    assert rates == pytest.approx([0.0, 0.5, *after])


@pytest.mark.trains
def test_the_schedule_of_w_counts_inner_steps_whatever_the_unroll(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    schedule = ("--search.scheduler", "linear", "--search.warmup_ratio", "0.34", "--search.steps", "6")
    engine = built(run_of(tiny_config("--search.unroll_steps", "2", *schedule)))
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1e-2)
    expected = get_scheduler("linear", optimizer, num_warmup_steps=2, num_training_steps=6)
    rates: list[tuple[float, float]] = []

    def after_step(searching: SearchEngine, over: bool) -> None:
        optimizer.step()
        expected.step()
        rates.append((searching.lora.optimizer.param_groups[0]["lr"], expected.get_last_lr()[0]))

    engine.run(after_step)
    assert [rate for rate, _ in rates] == pytest.approx([rate for _, rate in rates])
    assert rates[-1][0] == pytest.approx(0)
