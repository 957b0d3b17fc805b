"""The probe measures beside the search and leaves the search as it was."""

import math
from typing import Any

import pytest
import torch

from autolora.engine.search.probe import Probe
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
