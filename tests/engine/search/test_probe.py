"""The probe measures beside the search and leaves the search as it was."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from autolora.configs.schema import RunConfig
from autolora.engine.run.context import Context
from autolora.engine.search.probe import Probe
from autolora.engine.search.stage import build_search
from autolora.problems.hypergradients import HYPERGRADIENTS, register
from tests.helpers.bilevel_toys import Toy, implicit, lora_toy, random_vector

pytestmark = pytest.mark.usefixtures("float64")


def probed(wrapped: str, steps: list[int], etas: list[Any], toy: Toy) -> Probe:
    """A probe in the toy, in the place of its method."""
    probe = Probe(HYPERGRADIENTS[wrapped], steps, etas)
    toy.inner.config.type = register(probe)
    return probe


def first_step(**options: Any) -> Toy:
    """A toy whose inner step has left all that any method reads, as the probe asks for."""
    register(Probe(HYPERGRADIENTS["first_order"], [], []))
    return lora_toy(Probe.name, **options)


def test_the_search_goes_on_with_the_wrapped_method() -> None:
    toy = first_step(dropout=0.1)
    vector = random_vector(toy)
    expected = HYPERGRADIENTS["first_order"].implicit(vector, toy.inner, toy.outer)
    probed("first_order", [1], [0.5, "betty"], toy)
    weights = [p.detach().clone() for p in toy.inner.trained]
    assert torch.equal(implicit(toy, vector), torch.cat([t.flatten() for t in expected]))
    assert all(torch.equal(p, w) for p, w in zip(toy.inner.trained, weights, strict=True))
    assert toy.inner.eta() == 1.0


def test_all_methods_are_compared_at_the_chosen_steps_and_only_there() -> None:
    toy = first_step()
    probe = probed("darts", [2, 3], [0.5, "betty"], toy)
    for _ in range(4):
        implicit(toy, random_vector(toy))
    places = [(row["step"], row["eta"], row["approximation"]) for row in probe.rows]
    assert places == [(step, eta, name) for step in (2, 3) for eta in ("0.5", "betty") for name in HYPERGRADIENTS]


def test_steps_are_the_searchs_where_several_make_an_outer_one() -> None:
    register(Probe(HYPERGRADIENTS["first_order"], [], []))
    toy = lora_toy(Probe.name, unroll_steps=2, steps=1)
    probe = probed("darts", [2, 6], ["betty"], toy)
    for _ in range(5):
        toy.step()
    assert toy.outer.count == 3
    assert list(dict.fromkeys(row["step"] for row in probe.rows)) == [2, 6]


def test_the_numbers_are_those_of_exact_and_of_no_implicit_term() -> None:
    toy = first_step()
    probe = probed("darts", [1], [0.5, "betty"], toy)
    vector = random_vector(toy)
    implicit(toy, vector)
    rows = {(row["approximation"], row["eta"]): row for row in probe.rows}
    for eta in ("0.5", "betty"):
        exact, none = rows["exact", eta], rows["first_order", eta]
        assert [exact[key] for key in ("cosine", "norm_ratio", "total_cosine")] == pytest.approx([1, 1, 1])
        assert [none[key] for key in ("norm_ratio", "implicit_to_direct")] == [0, 0]
        assert math.isnan(none["cosine"]), "no implicit term has no direction"
        assert rows["darts", eta]["cosine"] > 0.99
        assert rows["exact_adamw", eta]["step_cosine"] == pytest.approx(1)
    assert rows["exact", "0.5"]["implicit_to_direct"] == pytest.approx(
        rows["exact", "betty"]["implicit_to_direct"] / 2
    ), "the one-step term grows with eta"


def test_against_nothing_there_is_no_cosine() -> None:
    toy = first_step()
    probe = probed("darts", [1], [0.0], toy)
    implicit(toy, random_vector(toy))
    for row in probe.rows:
        assert math.isnan(row["cosine"])
        assert math.isnan(row["norm_ratio"])
        assert row["implicit_to_direct"] == 0


def test_settings_come_back_when_a_method_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = first_step()
    probed("darts", [1], [0.5], toy)
    compute = toy.inner.compute

    def fail(*_: Any) -> Any:
        raise RuntimeError("a defect")

    monkeypatch.setattr(HYPERGRADIENTS["exact"], "implicit", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        implicit(toy, random_vector(toy))
    assert (toy.inner.eta(), toy.inner.compute) == (1.0, compute)


@pytest.mark.trains
def test_the_reference_of_bf16_weights_is_computed_in_fp32(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    torch.set_default_dtype(torch.float32)
    rows = {}
    for dtype in ("bf16", "rounded"):
        engine = build_search(run_of(tiny_config("--model.dtype", "bf16", "--precision", "fp32")), second_order=True)
        frozen = [p for p in engine.lora.module.parameters() if p.dtype == torch.bfloat16]
        if dtype == "rounded":  # the same numbers, in fp32 from the beginning
            for weight in frozen:
                weight.data = weight.data.float()
        before = [weight.data.clone() for weight in frozen]
        probe = Probe(HYPERGRADIENTS["first_order"], [2], ["betty"])
        engine.lora.config.type = register(probe)
        engine.train()
        for engine.global_step in (1, 2):
            engine.train_step()
        rows[dtype] = {row["approximation"]: row["cosine"] for row in probe.rows}
        assert frozen
        for weight, old in zip(frozen, before, strict=True):
            assert torch.equal(weight, old)
            assert weight.dtype == old.dtype
    assert rows["rounded"]["exact"] == pytest.approx(1, abs=1e-6)
    assert 0.5 < rows["bf16"]["exact"] < 1 - 1e-6, "arithmetic in bf16 must show against a reference in fp32"
