"""The probe measures beside the search and leaves the search as it was."""

from typing import Any

import pytest
import torch

from autolora.engine.probe import Probe
from tests.helpers.bilevel_toys import METHODS, Toy, equal, lora_toy, made

pytestmark = pytest.mark.usefixtures("float64")


def probed(
    wrapped: str, steps: list[int], etas: list[Any], taken: int, **options: Any
) -> tuple[Toy, Probe]:
    """A toy with a probe in the place of its method, after some inner steps."""
    compared = {(name, eta): made(name, eta) for eta in etas for name in METHODS}
    probe = Probe(made(wrapped), steps, compared)
    return lora_toy(probe, steps=taken, **options), probe


def test_the_search_goes_on_with_the_wrapped_method() -> None:
    options: dict[str, Any] = {"dropout": 0.1, "optimizer": torch.optim.AdamW, "rate": 0.01}
    toy, _ = probed("darts", [1, 2], [0.5, "betty"], 3, **options)
    plain = lora_toy("darts", steps=3, **options)
    assert equal(toy.after, plain.after)
    assert torch.equal(toy.outer.module.beta, plain.outer.module.beta)


def test_all_methods_are_compared_at_the_chosen_steps_of_the_search_and_only_there() -> None:
    toy, probe = probed("darts", [2, 6], [0.5, "betty"], 8, unroll_steps=2)
    assert toy.outer.count == 4
    places = [(row["step"], row["eta"], row["approximation"]) for row in probe.rows]
    assert places == [
        (step, eta, name) for step in (2, 6) for eta in ("0.5", "betty") for name in METHODS
    ]


def test_the_numbers_are_those_of_exact_and_of_no_implicit_term() -> None:
    _, probe = probed("darts", [1], [0.5, "betty"], 1, optimizer=torch.optim.AdamW, rate=0.01)
    rows = {(row["approximation"], row["eta"]): row for row in probe.rows}
    for eta in ("0.5", "betty"):
        exact = rows["exact", eta]
        none = rows["first_order", eta]
        assert [exact[key] for key in ("cosine", "norm_ratio", "total_cosine")] == pytest.approx(
            [1, 1, 1]
        )
        assert [none[key] for key in ("norm_ratio", "implicit_to_direct")] == [0, 0]
        assert none["cosine"] is None, "no implicit term has no direction"
        assert rows["darts", eta]["cosine"] > 0.99
        assert rows["exact_adamw", eta]["step_cosine"] == pytest.approx(1)
    assert rows["exact", "0.5"]["implicit_to_direct"] == pytest.approx(
        rows["exact", "betty"]["implicit_to_direct"] / 2
    ), "the one-step term grows with eta"
