"""Cut trained LoRA in several ways, and add the held-out loss of each cut adapter to a CSV
(results/cutting.md).

A run of method lora is cut by what some of its unused training rows say; its other unused rows and
its evaluation rows judge the adapters as they were written. What the CSV holds is not made again.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from autolora.configs.files import load_config
from autolora.engine.api.adapter import MeasuredAdapter, measure_model
from autolora.engine.disk.files import replacing
from autolora.engine.inputs import base_of, read_inputs
from autolora.engine.measure.bases import Basis, even_ranks, kept_within
from autolora.engine.measure.cut import adapter_of, cut_adapter, save_adapter
from autolora.engine.measure.lora import Lora
from autolora.engine.measure.passes import Passes
from autolora.engine.retrain.judge import judge
from autolora.engine.run.program import commit
from autolora.engine.terminal.bar import Bar
from autolora.engine.world import World
from autolora.problems.machine.compute import choose_compute
from autolora.problems.models.adapter import AdapterFolder
from autolora.problems.rows import Splits

CHOOSING = (400, 2000)
"""How many of the unused rows choose the cuts; at most two thirds of them."""
UNEVEN = (1, 4, 8)
"""The uneven cuts have as many parameters as these ranks in every layer."""
Bases = Sequence[Basis]
Cuts = Iterator[tuple[str, int, Bases, list[int]]]
"""The name of a way to cut, the rank whose size the cut has, the basis, and the rank of each
layer."""


def main(argv: Sequence[str] | None = None) -> int:
    """Cuts the given runs, one after the other, and writes the CSV after each; at the end a picture
    beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("csv", type=Path)
    parser.add_argument(
        "runs", nargs="+", type=Path, help="folders of finished runs of method lora"
    )
    asked = parser.parse_args(argv)
    for folder in asked.runs:
        known = pd.read_csv(asked.csv) if asked.csv.exists() else pd.DataFrame(columns=["run"])
        if folder.name not in set(known["run"]):
            made = pd.DataFrame(rows_of(folder))
            with replacing(asked.csv) as place:
                pd.concat([known, made], ignore_index=True).convert_dtypes().to_csv(
                    place, index=False
                )
    picture(pd.read_csv(asked.csv)).savefig(asked.csv.with_suffix(".png"))
    return 0


def picture(cuts: pd.DataFrame) -> Figure:
    """A panel for each task: by how many nats the cuts that the most rows chose are above the whole
    adapter, in the mean over its runs."""
    whole = cuts[cuts["cut"] == "whole"].set_index("run")["loss"]
    most = cuts.groupby("run")["rows"].transform("max")
    shown = cuts[(cuts["rows"] == 0) | (cuts["rows"] == most)].assign(
        above=lambda some: some["loss"] - some["run"].map(whole)
    )
    figure = Figure((8, 3.8), layout="constrained")
    panels = figure.subplots(1, cuts["task"].nunique(), squeeze=False).flat
    for axes, (task, of_task) in zip(panels, shown.groupby("task", sort=False), strict=True):
        for way, points in of_task.groupby("cut", sort=False):
            points.groupby("rank")["above"].mean().plot(
                ax=axes, marker="o", markersize=4, label=way
            )
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.set_xscale("log")
        ranks = sorted(set(of_task["rank"]))
        axes.set_xticks(ranks, [str(rank) for rank in ranks])
        axes.minorticks_off()
        axes.set(
            xlabel=f"size, as a rank in every layer, {task}",
            ylabel="loss above the whole adapter, nats",
        )
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False
    )
    return figure


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """A row of the CSV for each cut of a run. `rows`: how many rows chose it, 0 for those that the
    weights choose; `loss`: nats a label; `told`: the part of the gain that the choosing rows say an
    even cut keeps."""
    config = load_config(folder / "config.yaml")
    inputs = read_inputs(config)
    world = World(choose_compute(config.device, config.precision), progress=Bar)
    base = base_of(config, inputs, world.compute)
    unused: Any = inputs.rows.unused
    most = min(max(CHOOSING), 2 * len(unused) // 3)
    judged = unused.select(range(most, len(unused)))
    judging = Splits(inputs.rows.train, inputs.rows.evaluation, judged)
    model, off = AdapterFolder(folder / "adapter").load(base, world.compute.device)

    def loss_of(model: Any) -> float:
        """The log loss of the judging rows, each half at the temperature that fits the other; nats
        a label."""
        batch = config.evaluation_batch
        rows: Any = judge(model, judging, inputs.scoring, world, batch=batch).row_losses
        return float(rows["loss"].sum() / rows["weight"].sum())

    lora = Lora(model, adapter_of(model), off)
    found: list[dict[str, Any]] = [{"cut": "whole", "rank": lora.k, "loss": loss_of(model)}]

    def judge_cuts(cuts: Cuts, **columns: Any) -> None:
        for way, rank, bases, ranks in cuts:
            with tempfile.TemporaryDirectory() as place:
                save_adapter(*cut_adapter(lora, bases, ranks), Path(place))
                cut, _ = AdapterFolder(Path(place)).load(base, world.compute.device)
                loss = loss_of(cut)
            size = sum(rank * size for rank, size in zip(ranks, lora.sizes, strict=True))
            found.append({"cut": way, "rank": rank, "loss": loss, "parameters": size, **columns})

    judge_cuts(by_weights(lora), rows=0)
    for count in sorted({min(count, most) for count in CHOOSING}):
        choosing = unused.select(range(count))
        passes = Passes.of(choosing, inputs.scoring, world, config.evaluation_batch)
        adapter = measure_model(model, passes, config.retrain.batch_size, world, off=off)
        judge_cuts(by_rows(adapter, lora), rows=count)
        told = {point.at: point.kept for point in adapter.evidence.rank_curve}
        for row in found:
            if row.get("rows") == count and row["cut"] == "balanced":
                row["told"] = told[row["rank"]]
    own = {
        "run": folder.name,
        "task": config.task.result_name,
        "seed": config.seed,
        "commit": commit(),
    }
    return [own | row for row in found]


def by_weights(lora: Lora) -> Cuts:
    """The cuts that read no rows: by singular values."""
    plain = lora.plain_bases()
    yield from _even("plain", lora, plain)
    yield from _uneven("plain uneven", lora, plain, _squares(plain))
    yield from _uneven("energy threshold", lora, plain, energy_threshold(plain, lora.sizes))


def by_rows(adapter: MeasuredAdapter, lora: Lora) -> Cuts:
    """The cuts in the balanced basis."""
    balanced = adapter.moments.bases(lora)
    shares = (
        torch.tensor([layer.layer_share or 0.0 for layer in adapter.record.layers])
        .double()
        .clamp_min(0)
    )
    yield from _even("balanced", lora, balanced)
    yield from _uneven("balanced uneven", lora, balanced, _squares(balanced))
    yield from _uneven("shares", lora, balanced, _energy(balanced) * shares.unsqueeze(1))


def _even(way: str, lora: Lora, bases: Bases) -> Cuts:
    """One rank in every layer, each power of two below the adapter's."""
    for power in range((lora.k - 1).bit_length()):
        yield way, 2**power, bases, even_ranks(lora.ranks, 2**power)


def _uneven(way: str, lora: Lora, bases: Bases, worth: Tensor) -> Cuts:
    """The components of the largest worth per parameter [layers, k]."""
    for rank in UNEVEN:
        size = int(torch.tensor(even_ranks(lora.ranks, rank)) @ torch.tensor(lora.sizes))
        yield way, rank, bases, kept_within(worth, lora.sizes, size).sum(1).tolist()


def energy_threshold(bases: Bases, sizes: Sequence[int]) -> Tensor:
    """What PEFT's threshold makes a component worth [layers, k]: convert_to_lora keeps the
    components of each layer until they have a part of its energy, so that one counts by the energy
    left before it, whatever it costs."""
    energy = _energy(bases)
    return (1 - energy.cumsum(1) + energy) * torch.tensor(sizes).unsqueeze(1)


def _energy(bases: Bases) -> Tensor:
    """The part of its layer's squares that each component has [layers, k]."""
    return _squares(bases) / _squares(bases).sum(1, keepdim=True)


def _squares(bases: Bases) -> Tensor:
    return pad_sequence([basis.size.double().square() for basis in bases], batch_first=True)


if __name__ == "__main__":
    sys.exit(main())
