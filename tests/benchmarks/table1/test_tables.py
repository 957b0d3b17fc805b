"""What the tables show."""

import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmarks.table1.contrasts import contrasts_of
from benchmarks.table1.tables import of_agreement, of_contrasts, of_losses
from tests.helpers.table1_runs import runs


def lines(table: Table) -> list[list[str]]:
    """The cells of each line of a table."""
    console = Console(width=250)
    with console.capture() as capture:
        console.print(table)
    return [[cell.strip() for cell in row.split("│")[1:-1]] for row in capture.get().splitlines() if row[:1] == "│"]


def test_losses_have_their_standard_error_and_say_when_seeds_are_missing() -> None:
    table = pd.concat(
        [runs({"large": [0.4, 0.5], "small": [0.6]}), runs({"large": [0.1, 0.1]}, task="b").assign(main_metric="f1")]
    )
    table.loc[table["variant"] == "large", "lora_parameters"] = 1000
    assert lines(of_losses(table)) == [
        ["small", "100", "0.6000 (1)", "0.800", "-", "-", "60"],
        ["large", "1,000", "0.4500 +- 0.0500", "0.800", "0.1000 +- 0.0000", "0.800", "60"],
    ]


def test_contrasts_show_each_seed() -> None:
    table = runs({"shares 1": [0.4, 0.5], "1 shuffled": [0.5, 0.45], "head": [0.8, 0.9]})
    shown = lines(of_contrasts(contrasts_of(table, {"shares 1": "1 shuffled"}), "places"))
    assert shown == [["shares 1", "0.1000 -0.0500", "1 of 2", "6.2 +- 18.7 %", "-", "-"]]


def test_agreement_is_of_ranks_and_of_measured_shares() -> None:
    learned = runs({"shares 1": [0.4, 0.5]})
    learned["ranks"], learned["shares"] = [[1, 2, 3], [1, 3, 2]], [[0.1, 0.2, 0.7], [0.1, 0.2, 0.7]]
    shown = of_agreement(learned)
    assert shown is not None
    assert lines(shown) == [["shares 1", "0.50"], ["shares of shares 1", "1.00"]]
    assert of_agreement(runs({"rank 1": [0.4, 0.5]}, ranks=[1, 1, 1])) is None
