"""Time contenders, which take turns in one process so that a slow minute of the machine affects all of them."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from autolora.engine.terminal.bar import Bar
from autolora.problems.machine.compute import timed

Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Contender:
    """Something that takes one step on a batch. `rounds`: in how many timed rounds it takes part; None: in all."""

    name: str
    step: Callable[[Batch], object]
    rounds: int | None = None


@dataclass
class Times:
    """Seconds by contender and round."""

    rounds: dict[str, dict[int, float]] = field(default_factory=dict)

    def median(self, name: str) -> float:
        """Median seconds of a step."""
        return statistics.median(self.rounds[name].values())

    def ratio(self, name: str, base: str) -> float:
        """Median of seconds(name) / seconds(base) on the same batch, over the rounds in which both took part."""
        own, other = self.rounds[name], self.rounds[base]
        return statistics.median(own[number] / other[number] for number in own if number in other)


def take_turns(contenders: Sequence[Contender], batches: Sequence[Batch], warmup: int, device: torch.device) -> Times:
    """In each round every contender takes a step on the round's batch; the first `warmup` rounds are not counted.

    The order shifts by one from round to round, so that none is always first. A contender with its own number of
    `rounds` joins at the last warm-up round.
    """
    times = Times({contender.name: {} for contender in contenders})
    with Bar("rounds", len(batches), steady=False) as bar:
        for number, batch in enumerate(batches):
            turn = number % len(contenders)
            for contender in [*contenders[turn:], *contenders[:turn]]:
                late = contender.rounds is not None
                if late and not warmup - 1 <= number < warmup + (contender.rounds or 0):
                    continue
                seconds = timed(lambda c=contender, b=batch: c.step(dict(b)), device)  # type: ignore[misc]
                if number >= warmup:
                    times.rounds[contender.name][number] = seconds
            bar.step(number + 1)
    return times


def medians(times: Times) -> Mapping[str, float]:
    """Name -> median seconds."""
    return {name: times.median(name) for name, found in times.rounds.items() if found}
