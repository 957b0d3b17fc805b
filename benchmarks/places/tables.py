"""The tables of `python -m benchmarks.places`."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from benchmarks.command import table_of
from benchmarks.places.effects import Explained
from benchmarks.places.judged import Judged
from benchmarks.places.repeats import Repeats


def of_places(found: Sequence[Explained], again: Repeats | None, gain: float | None, title: str, said: str) -> Table:
    """How much of the losses the places explain."""
    by = "the mean losses of the allocations, explained by"
    columns = ("leave-one-out R2", "explained spread, nats", "explained spread / gain")
    table = table_of(title, by, *columns, caption=said)
    rows = [(one.described_by, one.r2, one.spread) for one in found]
    if again is not None:
        rows = [("the places, whatever they are (trained at another seed)", again.reliability, again.spread), *rows]
    for name, r2, spread in rows:
        table.add_row(name, f"{r2:.2f}", f"{spread:.4f}", f"{spread / gain:.1%}" if gain and gain > 0 else "-")
    return table


def of_scores(found: Mapping[str, Judged], again: Repeats | None, allocations: int) -> Table:
    """How well scores that were known before the trainings foretell these; the best first."""
    notes = f"Unrelated orders of {allocations} allocations correlate by 0 +- {(allocations - 1) ** -0.5:.2f}."
    if again is not None:
        notes += f" The most that the losses allow is {again.reliability**0.5:.2f}."
    notes += " *: surely behind the best (at most 5 % of such tables err in any line)."
    title = "Spearman correlation of scores known before the trainings, +- standard error"
    columns = ("score", "with the layers' effects", "with the losses", "behind the best")
    table = table_of(title, *columns, caption=notes)
    order = sorted(found.items(), key=lambda item: -2.0 if item[1].losses is None else item[1].losses, reverse=True)
    for name, one in order:
        pairs: list[tuple[Any, Any]] = [
            (one.effects, one.effects_error), (one.losses, one.losses_error), (one.behind, one.behind_error)
        ]  # fmt: skip
        cells = [_with_error(*pair) for pair in pairs]
        table.add_row(name, *cells[:-1], f"{cells[-1]} *" if one.surely_behind else cells[-1])
    return table


def _with_error(value: float | None, error: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if not error else f"{value:.2f} +- {error:.2f}"
