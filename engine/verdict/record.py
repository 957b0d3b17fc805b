"""What the trainings of a verdict have shown, pair by pair, and verdict.json, which holds it in
numbers and in one sentence, as other programs and the report read it."""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from autolora.configs.errors import UserError
from autolora.engine.disk.files import read_json, write_json
from autolora.engine.disk.tables import read_parquet
from autolora.engine.measure.judged import ratio_error
from autolora.engine.verdict.arms import HEAD, LEARNED, SEEDS, SHUFFLED, Arms
from autolora.engine.verdict.judge import FEWEST, Ending, Pairs, first_ending

AGAIN = "--overwrite trains every pair again"


@dataclass(frozen=True)
class PairLosses:
    """The first pairs of which every arm is trained.

    `losses`: arm -> the loss of each row in each pair [pairs, rows], summed over its labels.
    `weights` [rows]: how many labels a row has. `sources` [rows]: a number that is the same for all
    rows made from one input. `head`: the losses of the head alone [seeds, rows]. `results`: arm ->
    metrics.json of each pair.
    """

    losses: dict[str, np.ndarray]
    weights: np.ndarray
    sources: np.ndarray
    head: np.ndarray
    results: dict[str, list[dict[str, Any]]]

    @property
    def count(self) -> int:
        """How many pairs there are."""
        return len(self.losses[LEARNED])

    def pairs(self, count: int | None = None, arm: str = SHUFFLED) -> Pairs:
        """The first `count` pairs (all unless given) of the learned ranks and another arm."""
        learned = self.losses[LEARNED][:count]
        rows = self.losses[arm][:count] - learned
        # LoRA's gain over the head alone: between the means over both's seeds.
        gained = self.head.mean(axis=0) - learned.mean(axis=0)
        seeds = [_seed_error(self.means(losses)) for losses in (learned, self.head)]
        error = math.hypot(self._row_error(gained), *seeds)
        return Pairs(
            self.means(rows), self._row_error(rows.mean(axis=0)), float(self.means(gained)), error
        )

    def means(self, losses: np.ndarray) -> np.ndarray:
        """The mean of losses [.., rows] over all labels, nats."""
        found: np.ndarray = losses.sum(axis=-1) / self.weights.sum()
        return found

    def _row_error(self, rows: np.ndarray) -> float:
        """The standard error, over rows, of the mean of [rows]; rows of one source count as one
        draw."""
        return float(ratio_error(torch.tensor(rows), torch.tensor(self.weights), self.sources))


def _seed_error(means: np.ndarray) -> float:
    """The standard error over seeds of the mean of these losses [seeds]; 0 for one seed, which
    shows no spread."""
    return float(means.std(ddof=1)) / len(means) ** 0.5 if len(means) > 1 else 0.0


def shown(arms: Arms) -> PairLosses:
    """What the pairs show, of which the first, and the heads alone, must be trained.

    Raises UserError that names the file if one is damaged, or if the trainings did not all begin
    from the same weights of the base model. Their rows were compared before they began.
    """
    pairs = [arms.pair(number) for number in range(1, max(arms.plan) + 1)]
    pairs = list(
        itertools.takewhile(lambda pair: all(cell.finished for cell in pair.values()), pairs)
    )
    cells = {HEAD: arms.heads()} | {arm: [pair[arm] for pair in pairs] for arm in arms.names}
    results = {
        arm: [read_json(cell.folder.metrics) for cell in of_arm] for arm, of_arm in cells.items()
    }
    # a hub's branch moves on
    if len({one.get("base_weights") for of_arm in results.values() for one in of_arm}) > 1:
        raise UserError(
            "--model.name: trainings of other weights of the base model are in "
            f"{arms.folder.verdict}; bring the old ones back, or {AGAIN}"
        )
    columns = ("loss", "weight", "source")
    tables = {
        arm: [read_parquet(cell.folder.row_losses, AGAIN, columns) for cell in of_arm]
        for arm, of_arm in cells.items()
    }
    losses = {arm: np.stack([one["loss"] for one in of_arm]) for arm, of_arm in tables.items()}
    first = tables[HEAD][0]
    return PairLosses(
        losses, first["weight"].to_numpy(), first["source"].to_numpy(), losses.pop(HEAD), results
    )


def write_verdict(found: PairLosses, arms: Arms) -> None:
    """Writes verdict.json. Losses and differences are in nats per label; a difference above 0
    speaks for the learned ranks."""
    evidence = arms.record.evidence
    enough = evidence.sufficient_rank(arms.record.tolerance) if evidence else None
    ending, count = first_ending(arms.plan, found.count, found.pairs) or ("undecided", found.count)
    pairs = found.pairs(count)
    content: dict[str, Any] = {
        "ending": ending,
        "sentence": sentence(ending, pairs, arms),
        "recommendation": _advice(
            ending, pairs, arms, f"take rank {enough or arms.uniform_rank} in every layer."
        ),
        "pairs": count,
        "difference": pairs.mean,
        "interval": _interval(pairs),
        "p": pairs.p(),
        "gain": pairs.gain,
        "gain_standard_error": pairs.gain_error,
        "parameters": arms.parameters,
        "enough_rank": enough,
        "learning_rate": arms.rate,
        "rows": len(found.weights),
        "row_standard_error": pairs.row_error,
        "metric": next(iter(found.results[LEARNED][0]["metrics"])),
        "arms": [_arm(name, found, count) for name in arms.names],
    }
    write_json(arms.folder.verdict_summary, content)


def _interval(pairs: Pairs) -> list[float] | None:
    """The 95 % interval of the mean difference; one pair has none."""
    return list(pairs.interval()) if pairs.count > 1 else None


def _arm(name: str, found: PairLosses, count: int) -> dict[str, Any]:
    """The loss and the metric of an arm in each pair, and its LoRA parameters (a mean over the
    pairs, as those of a shuffle may vary); for the arms that are compared with the learned ranks,
    also their difference."""
    results = found.results[name][:count]
    told: dict[str, Any] = {
        "name": name,
        "losses": found.means(found.losses[name][:count]).tolist(),
        "scores": [next(iter(result["metrics"].values())) for result in results],
        "parameters": round(float(np.mean([result["lora_parameters"] for result in results]))),
    }
    if name != LEARNED:
        pairs = found.pairs(count, name)
        told |= {"difference": pairs.mean, "interval": _interval(pairs)}
    return told


def sentence(ending: Ending, pairs: Pairs, arms: Arms) -> str:
    """What the pairs say."""
    low, high = pairs.interval()
    tested = f"{low:.3g} to {high:.3g} nats, {pairs.count} pairs, p {pairs.p():.2g}"
    if ending == "equal":
        return (
            f"Places do not matter here: other layers do as well ({tested}), at "
            f"{arms.parameters:,} parameters."
        )
    if ending != "undecided":
        said = "Places matter" if ending == "matter" else "Places are worse"
        order = "learned beats its shuffle" if ending == "matter" else "the shuffle beats learned"
        little = ", but by little" if pairs.slight else ""
        part = (
            f", {100 * abs(pairs.mean) / pairs.gain:.1f} % of what LoRA gains"
            if pairs.learned
            else ""
        )
        return (
            f"{said}{little}: {order} by {abs(pairs.mean):.3g} nats{part} ({tested}), at "
            f"{arms.parameters:,} parameters."
        )
    if pairs.worthless and pairs.count >= SEEDS:
        return (
            "Nothing to gain: on these rows LoRA at the learned ranks changes the loss by "
            f"{-pairs.gain:.3g} +- {pairs.gain_error:.2g} nats; at shuffled ranks, too, no "
            "gain is sure."
        )
    after = f"After pair {pairs.count} the difference is {pairs.mean:.3g} nats"
    if pairs.count < FEWEST:
        return f"{after}; at least {FEWEST} pairs are needed."
    look, level = next(at for at in arms.plan.items() if at[0] >= pairs.count)
    return (
        f"{after} ({tested}); a verdict after {look} pairs needs p at most {level:g} and an "
        f"interval of {100 - 200 * level:g} % that leaves out 0."
    )


def _advice(ending: Ending, pairs: Pairs, arms: Arms, uniform: str) -> str:
    """What to do with these ranks."""
    if pairs.worthless and pairs.count >= SEEDS:
        return (
            "LoRA does nothing for these rows: train longer, at another rate, or on more "
            "rows, then choose ranks."
        )
    if ending == "undecided" and pairs.count == max(arms.plan):
        return (
            f"No more than {pairs.count} pairs are trained: a second verdict would be a second "
            f"test; {uniform}"
        )
    return {
        "matter": "Use these ranks.",
        "worse": f"Do not use these ranks; {uniform}",
        "equal": f"Choose by cost alone: keep these ranks, which have {arms.parameters:,} "
        f"parameters, or {uniform}",
        "undecided": f"The same command trains further pairs; until then, {uniform}",
    }[ending]
