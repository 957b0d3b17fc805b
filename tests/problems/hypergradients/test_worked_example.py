"""The example in docs/hypergradients.md of how to add an approximation: as printed, it computes what it says."""

import re
from typing import Any

import pytest
from betty.hypergradient import jvp_fn_mapping

from problems.hypergradients import HYPERGRADIENTS, betty_type
from tests.helpers.bilevel_toys import lora_toy, unrolled
from tests.helpers.places import ROOT

PAGE = ROOT / "docs" / "hypergradients.md"
NAME = "backward_difference"

pytestmark = pytest.mark.usefixtures("float64")


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    names: dict[str, Any] = {}
    exec(code, names)  # the project's own page
    method = names["BackwardDifference"]()
    monkeypatch.setitem(HYPERGRADIENTS, NAME, method)
    monkeypatch.setitem(jvp_fn_mapping, betty_type(NAME), method)
    return NAME


def test_the_error_is_first_order_in_the_radius(registered: str) -> None:
    def error(radius: float) -> float:
        toy = lora_toy(registered, eta=1.0, darts_alpha=radius)
        return float((toy.outer.implicit - unrolled(toy, 1.0)[1]).norm())

    assert error(0.04) / error(0.02) == pytest.approx(2, rel=0.1)
    assert error(1e-5) < 1e-3 * float(lora_toy(registered, eta=1.0).outer.implicit.norm())


def test_it_costs_what_it_says(registered: str) -> None:
    toy = lora_toy(registered, steps=1)
    cost = HYPERGRADIENTS[registered].cost(0)
    assert (toy.inner.passes.forward, toy.inner.passes.backward) == (cost.forward, cost.backward)
