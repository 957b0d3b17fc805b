"""What does each hypergradient approximation reach where the answer is known? `python -m benchmarks.bilevel`.

The problem is a ridge regression with a penalty of its own for every weight (benchmarks/bilevel/ridge.py). Every
approximation learns the penalties with as many passes through the model as the others. The table has the cosine of its
outer gradients to the true hypergradient, and how much of the way from the start to the best penalties it went. `sama`
and `exact_adamw` model a step of Adam; they are tried with `--inner adam`. An approximation of your own
(docs/hypergradients.md) can be tried by its name.
"""

import functools
import itertools
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import Field
from rich.table import Table

from autolora.configs.errors import UserError
from autolora.configs.own_class import is_own
from autolora.configs.search import BUILT_IN, COMPARED, OwnHypergradient
from autolora.configs.section import Count, CountFromZero, NotNegative, Positive
from autolora.engine.study.rows import spread
from autolora.problems.hypergradients import Hypergradient, approximation
from benchmarks.bilevel.descent import Descent, Point, learn
from benchmarks.bilevel.picture import draw_progress
from benchmarks.bilevel.ridge import Ridge
from benchmarks.command import Settings, main, refuse_unknown, table_of

WITHOUT_ADAM = [name for name in COMPARED if name not in ("sama", "exact_adamw")]
"""The approximations that do not differentiate a step of Adam."""


class BilevelSettings(Settings):
    """What is tried."""

    picture: str | None = None
    """PNG file that gets the objective over the passes."""
    methods: list[str] = []
    """Approximations, by the values of hypergradient.type: a name, or FILE.py:CLASS for one of your own; empty: all
    built-in ones that suit `inner`."""
    inner: Literal["sgd", "adam"] = "sgd"
    """What moves the weights: plain gradient descent, or Adam, which sama and exact_adamw need."""
    unroll_steps: Annotated[list[Count], Field(min_length=1)] = [1, 10]
    """Inner steps for each outer one: each value is tried."""
    options: dict[str, Any] = {}
    """Arguments by name for the approximations of your own, such as {rate: 0.1}."""
    eta: NotNegative | Literal["lr", "betty"] = "lr"
    """Size of the inner step in the implicit term: a number, lr or betty (1)."""
    cg_eta: NotNegative | Literal["lr", "betty"] = 100.0
    """The same for cg, whose damping is 1 / eta: a large eta gives the implicit function theorem."""
    terms: CountFromZero = 10
    """Hessian-vector products of neumann and cg."""
    inner_rate: Positive | None = None
    """Learning rate of the weights; null: 0.3 with sgd, 0.03 with adam."""
    outer_rate: Positive = 0.05
    """Learning rate of beta (Adam)."""
    passes: Count = 4000
    """Forward and backward passes that each approximation may use."""
    inputs: Annotated[int, Field(ge=2)] = 20
    """Weights of the regression."""
    rows: Annotated[int, Field(ge=2)] = 40
    """Rows of D_tr, and of D_val."""
    batch_rows: Count | None = None
    """Rows that each step draws anew, of D_tr and of D_val; null: all of them."""
    seeds: Count = 3
    """Problems, each drawn by its seed."""

    PICTURES: ClassVar = ("picture",)


@dataclass(frozen=True)
class Row:
    """One approximation at one number of inner steps, over the seeds. `closed`: the part of the way from the objective
    at the start to the best one. `cosine`: the mean over the outer steps; None if the outer gradient was always 0.
    `stopped`: the passes after which a step was not finite, so that the descent ended there; None if it took all.
    `curves`: passes and closed, of each seed."""

    method: str
    unroll_steps: int
    outer_steps: int
    passes_a_step: float
    cosine: list[float | None]
    closed: list[float]
    stopped: list[int | None]
    curves: list[tuple[list[int], list[float]]]


def measure_bilevel(settings: BilevelSettings) -> tuple[dict[str, Any], list[Table]]:
    """Tries every approximation on every problem. Raises UserError for one that does not exist, or that needs Adam
    where plain gradient descent moves the weights, for batches of more rows than there are, and for an approximation
    whose first outer step is not finite."""
    built_in = COMPARED if settings.inner == "adam" else WITHOUT_ADAM
    methods = settings.methods or built_in
    refuse_unknown("methods", itertools.filterfalse(is_own, methods), [*built_in, "FILE.py:CLASS"])
    if settings.options and not any(map(is_own, methods)):
        raise UserError("--options: does nothing without an approximation of your own in --methods; leave it out")
    if settings.batch_rows and settings.batch_rows > settings.rows:
        raise UserError(f"--batch_rows: {settings.batch_rows} is not allowed; allowed: at most --rows {settings.rows}")
    problems = [Ridge.drawn(seed, settings.inputs, settings.rows) for seed in range(settings.seeds)]
    try:
        for name in filter(is_own, methods):
            _made(name, settings)  # refused before the others have taken minutes
        tried = itertools.product(settings.unroll_steps, methods)
        rows = [_row(name, unroll, problems, settings) for unroll, name in tried]
    except UserError as error:
        raise UserError(_as_given_here(str(error))) from error
    if settings.picture:
        draw_progress([(row.method, row.unroll_steps, row.curves) for row in rows], Path(settings.picture))
    return {"rows": [asdict(row) for row in rows]}, [_shown(rows, settings)]


def _as_given_here(said: str) -> str:
    """A message about an approximation of the user's own, with the keys of this command."""
    return said.replace("--hypergradient.type:", "--methods:")


def _made(name: str, settings: BilevelSettings) -> Hypergradient:
    """The approximation of this name."""
    if is_own(name):
        return approximation(OwnHypergradient(type=name, options=settings.options))
    given: dict[str, Any] = {"eta": settings.cg_eta if name == "cg" else settings.eta, "terms": settings.terms}
    kind = BUILT_IN[name]
    return approximation(kind(**{key: value for key, value in given.items() if key in kind.model_fields}))


def _row(name: str, unroll_steps: int, problems: Sequence[Ridge], settings: BilevelSettings) -> Row:
    make = functools.partial(_made, name, settings)
    adam = settings.inner == "adam"
    rates = settings.inner_rate or (0.03 if adam else 0.3), settings.outer_rate
    how = Descent(make, unroll_steps, rates, adam, settings.batch_rows)
    runs = [list(learn(problem, how, settings.passes)) for problem in problems]
    if not all(runs):
        raise UserError(
            f"--methods: {name} with {unroll_steps} inner steps: the first outer step of problem {runs.index([])} is "
            f"not finite; a lower --inner_rate may help, or another approximation"
        )
    curves = [_curve(problem, run) for problem, run in zip(problems, runs, strict=True)]
    stopped = [run[-1].passes if run[-1].passes < settings.passes else None for run in runs]
    shortest = min(runs, key=len)
    return Row(
        name, unroll_steps, len(shortest), shortest[-1].passes / len(shortest), list(map(_mean_cosine, runs)),
        [closed[-1] for _, closed in curves], stopped, curves,
    )  # fmt: skip


def _mean_cosine(run: Sequence[Point]) -> float | None:
    known = [point.cosine for point in run if not math.isnan(point.cosine)]
    return float(np.mean(known)) if known else None


def _curve(problem: Ridge, run: Sequence[Point]) -> tuple[list[int], list[float]]:
    """Passes, and the part of the way that has been gone after them."""
    way = problem.at_start() - problem.best()
    return [point.passes for point in run], [(problem.at_start() - point.objective) / way for point in run]


def _shown(rows: Sequence[Row], settings: BilevelSettings) -> Table:
    title = f"{settings.passes:,} passes each: mean (range) over {settings.seeds} problems"
    numbers = ("inner steps", "passes a step", "cosine to the truth", "of the way, %")
    table = table_of(title, "approximation", *numbers, caption="; ".join(filter(None, map(_end, rows))))
    table.columns[0].no_wrap = True
    for row in rows:
        cosine, closed = _spread(row.cosine, 1, 2), _spread(row.closed, 100, 0)
        table.add_row(row.method, f"{row.unroll_steps}", f"{row.passes_a_step:.0f}", cosine, closed)
    return table


def _end(row: Row) -> str:
    """On how many problems the descent ended early, and after how many passes first; "" if it ended early on none."""
    known = [passes for passes in row.stopped if passes is not None]
    where = f"{row.method}, {row.unroll_steps} inner: stopped on {len(known)} of {len(row.stopped)} problems"
    return f"{where}, first after {min(known):,} passes: not finite" if known else ""


def _spread(values: Sequence[float | None], scale: float, digits: int) -> str:
    """Mean and range; "none" if a value is missing: an outer gradient of 0 has no direction."""
    known = [scale * value for value in values if value is not None]
    return spread(pd.Series(known), "mean", digits) if len(known) == len(values) else "none"


if __name__ == "__main__":
    sys.exit(main(BilevelSettings, measure_bilevel))
