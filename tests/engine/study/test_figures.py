"""The pictures of a study show the numbers that they were given."""

import pandas as pd
import pytest

from autolora.engine.study.figures import COST, against_cost, timed


def test_the_cost_of_a_type_with_several_options_is_that_of_its_options() -> None:
    rows = [
        ("darts", "{}"),
        (None, None),
        ("mine.py:Mine", "{rate: 0.1}"),
        ("mine.py:Mine", "{rate: 0.2}"),
        ("none", "{}"),
    ]
    results = pd.DataFrame(rows, columns=["searched_by", "options"]).assign(task="t")
    names = ["darts", "mine.py:Mine {rate: 0.1}", "mine.py:Mine {rate: 0.2}"]
    cost = pd.DataFrame({"approximation": names, "ratio_to_lora": [4.0, 5.0, 6.0]})
    assert timed(results, cost)[COST].tolist() == [4.0, 5.0, 6.0]


def test_the_outer_loss_is_drawn_minus_the_mean_at_the_same_seed() -> None:
    """Seeds differed by a hundred times as much as approximations, so that all points were one."""
    rows = [("darts", 0, 0.2, 4.0), ("darts", 1, 0.8, 4.0), ("exact", 0, 0.1, 9.0), ("exact", 1, 0.6, 9.0)]
    runs = pd.DataFrame(rows, columns=["row", "seed", "outer_loss", COST]).assign(task="t")
    (axes,) = against_cost(runs, "outer_loss", "L_val", within_seed=True).axes
    points = {bars.get_label(): bars[0].get_xydata()[0].tolist() for bars in axes.containers}
    assert points == {"darts": pytest.approx([4.0, 0.075]), "exact": pytest.approx([9.0, -0.075])}
