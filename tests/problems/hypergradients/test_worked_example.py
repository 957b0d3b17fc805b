"""The example in docs/hypergradients.md of an approximation of one's own: as printed, it computes what it says."""

import re
from pathlib import Path

import pytest
from betty.hypergradient import jvp_fn_mapping

from configs.errors import UserError
from problems.hypergradients import HYPERGRADIENTS, approximation, betty_type
from tests.helpers.bilevel_toys import lora_toy, unrolled
from tests.helpers.places import ROOT

PAGE = ROOT / "docs" / "hypergradients.md"

pytestmark = pytest.mark.usefixtures("float64", "unchanged_registry")


@pytest.fixture
def own(tmp_path: Path) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    (tmp_path / "mine.py").write_text(code, encoding="utf-8")
    chosen = f"{tmp_path / 'mine.py'}:BackwardDifference"
    approximation(chosen)
    return chosen


def test_it_is_known_under_its_file_and_class(own: str) -> None:
    assert HYPERGRADIENTS[own] is approximation(own) is jvp_fn_mapping[betty_type(own)]


def test_the_error_is_first_order_in_the_radius(own: str) -> None:
    def error(radius: float) -> float:
        toy = lora_toy(own, eta=1.0, darts_alpha=radius)
        return float((toy.outer.implicit - unrolled(toy, 1.0)[1]).norm())

    assert error(0.04) / error(0.02) == pytest.approx(2, rel=0.1)
    assert error(1e-5) < 1e-3 * float(lora_toy(own, eta=1.0).outer.implicit.norm())


def test_it_costs_what_it_says(own: str) -> None:
    toy = lora_toy(own, steps=1)
    cost = HYPERGRADIENTS[own].cost(0)
    assert (toy.inner.passes.forward, toy.inner.passes.backward) == (cost.forward, cost.backward)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("class Mine:\n    pass\n", "is no approximation; allowed: a class that derives from Hypergradient"),
        (
            "from problems.hypergradients import Hypergradient\n\nclass Mine(Hypergradient):\n    name = 'mine'\n",
            "cannot be made without arguments (Can't instantiate abstract class Mine",
        ),
    ],
)
def test_a_class_that_cannot_be_one_is_refused(tmp_path: Path, code: str, words: str) -> None:
    (tmp_path / "mine.py").write_text(code)
    with pytest.raises(UserError, match=re.escape(words)):
        approximation(f"{tmp_path / 'mine.py'}:Mine")
    assert not any(key.endswith(":Mine") for key in HYPERGRADIENTS)
