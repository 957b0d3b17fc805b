"""Variants of the shares: measured on D_tr instead of D_val, and over the beginning of the path alone.

At the beginning nearly nothing of LoRA is active, as under a small budget. The loss is then taken at the temperature
that fits the model without LoRA.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from autolora.engine.answer.cuts import Cuts, Searched
from autolora.engine.answer.heads import heads_of
from autolora.engine.answer.measure import shared_temperature, shares_on
from autolora.engine.answer.shares import Shares, integrate
from autolora.engine.answer.stage import head_on, sample_of
from autolora.engine.run.workbench import Workbench
from autolora.engine.search.found import read_numbers, searched_model

BEGINNING = 0.2
"""The t at which the beginning of the path ends."""


def share_variants(run: Workbench) -> dict[str, Tensor]:
    """Name of the variant -> score [layers]."""
    d_tr, d_val = run.halves()
    cuts, ends = _measured(run, d_tr)
    temperature = shared_temperature(cuts.sample.likelihood, ends, cuts.weights)
    on_d_tr, _, _ = shares_on(cuts, ends, temperature, run.config.search.batch_size)
    cuts, ends = _measured(run, d_val)
    of_beginning = beginning(cuts, ends[0], run.config.search.batch_size)
    return {
        "share on D_tr: of the largest component": on_d_tr.mean().amax(dim=1),
        "share at the beginning of the path: of the largest component": of_beginning.mean().amax(dim=1),
        "share at the beginning of the path: of the layer": of_beginning.by_layer().mean().flatten(),
    }


def beginning(cuts: Cuts, off: Tensor, batch: int) -> Shares:
    """The shares over the beginning of the path. `off`: the statistics of every row without LoRA [rows, numbers];
    `batch`: rows that pass at a time."""
    temperature = cuts.sample.likelihood.fitted(off, cuts.weights)
    return integrate(cuts.searched, temperature, cuts.sample, batch, nodes=1, until=BEGINNING)


def _measured(run: Workbench, rows: Sequence[int] | np.ndarray) -> tuple[Cuts, tuple[Tensor, Tensor]]:
    """The searched model on a sample of these rows, and its statistics without LoRA (of the head alone, if there is
    one) and with all of it. The head alone learns on D_tr in any case."""
    sample = sample_of(run, rows)
    head, weights, _ = head_on(run, run.data.train.select(run.halves()[0]), sample)
    model, gates = searched_model(run)
    sizes = list(gates.parameters_per_rank().values())
    singular = read_numbers(run.folder)["singular_values"]
    cuts = Cuts(Searched(model, gates, singular, sizes, heads_of(model, weights)), sample)
    every = cuts.searched.all()
    off, on = cuts.statistics([every & False, every])
    return cuts, (off if head is None else head, on)
