"""The log losses of rows at any temperature, and what their errors are.

Losses are computed from a few statistics per row, so that no logits are kept. An over-confident
model has a large log loss even if it ranks the classes correctly, so raw losses would punish larger
ranks: dividing the logits by one fitted temperature corrects this; in a regression, fitting the
error's variance does.
"""

import math

import numpy as np
import torch
from peft import TaskType
from scipy.interpolate import CubicSpline
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from autolora.problems.tasks.losses import IGNORED, summed_loss
from autolora.problems.tasks.scoring import Scoring

# Four temperatures per octave: a cubic spline through them gives the loss in between, to 1e-4 nats
# also with the vocabulary of a language model. With two per octave, or with parabolas, it was off
# by up to 2e-2 there.
_OCTAVE = 4


def _temperatures(lowest: int, highest: int) -> np.ndarray:
    """The temperatures from 2**lowest to 2**highest."""
    return 2.0 ** (np.arange(lowest * _OCTAVE, highest * _OCTAVE + 1) / _OCTAVE)


TEMPERATURES = _temperatures(-3, 4)
"""For classes. A head that was hardly trained is so unsure that it needs a temperature below
1/2."""
_PRICE = 0.5
"""What a temperature below 1 costs, in nats times the square of its octaves below 1. Without it,
rows that a model gets all right would want a temperature of 0, at which one wrong row among the
other rows would decide their loss."""
_OF_TOKENS = _temperatures(-1, 2)
"""Fewer for language models, as each costs two passes over the scores of a whole vocabulary."""
# How many logits are processed at a time. On a CPU, this many fit into the processor's cache, where
# each pass over them takes a tenth of the time, and no new memory is requested. A GPU gets larger
# parts.
_SCORES_IN_CACHE = 2**18
_SCORES_ON_GPU = 2**25


class Categorical:
    """The log loss of class labels, one for each row or for each token (-100: no label), in nats;
    logits are divided by the temperature. A row's weight is the number of its labels.

    `shifted`: the logits of a token predict the label of the next token.
    """

    def __init__(self, *, shifted: bool = False) -> None:
        self.shifted = shifted
        self.grid = _OF_TOKENS if shifted else TEMPERATURES

    @property
    def width(self) -> int:
        """How many statistics a row has."""
        return len(self.grid)

    def labelled_positions(self, labels: Tensor) -> Tensor | None:
        """The positions of tokens, ascending, whose logits predict a label of this batch; None if
        all are needed."""
        if not self.shifted:
            return None
        return (labels[:, 1:] != IGNORED).any(dim=0).nonzero()[:, 0]

    def statistics(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """The statistics from which `losses` are computed [rows, numbers], and the weight of each
        row [rows]."""
        scores, targets = (logits[:, :-1], labels[:, 1:]) if self.shifted else (logits, labels)
        sums = torch.zeros(len(logits), len(self.grid), device=logits.device)
        most = _SCORES_IN_CACHE if logits.device.type == "cpu" else _SCORES_ON_GPU
        for places in (targets != IGNORED).nonzero().split(max(1, most // logits.shape[-1])):
            at = tuple(places.T)
            sums.index_add_(0, at[0], self._at_every_temperature(scores[at].float(), targets[at]))
        return sums, self.weights(logits, labels).to(sums)

    def _at_every_temperature(self, scores: Tensor, targets: Tensor) -> Tensor:
        """The losses [labels, temperatures] of labels [labels]; overwrites the scores [labels,
        classes].

        In log sum exp(z / T), exp(z / T) is computed only for the temperatures of the last octave.
        Each lower octave squares the values of the one above: exp(z / T) is the square of exp(z /
        2T), up to rounding.
        """
        below = scores.sub_(scores.amax(dim=1, keepdim=True))
        own = below.gather(1, targets.unsqueeze(1))
        sums = torch.empty(len(scores), len(self.grid), dtype=scores.dtype, device=scores.device)
        for hottest in range(len(self.grid) - _OCTAVE, len(self.grid)):
            powers = (below / self.grid[hottest]).exp_()
            sums[:, hottest] = powers.sum(dim=1)
            for place in range(hottest - _OCTAVE, -1, -_OCTAVE):
                sums[:, place] = powers.square_().sum(dim=1)
        return sums.log_() - own / torch.from_numpy(self.grid).to(own)

    def weights(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The weight of each row [rows]."""
        known = (labels[:, 1:] if self.shifted else labels) != IGNORED
        return known.view(len(labels), -1).sum(dim=1)

    def loss(self, logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
        """The loss at this temperature, summed over all labels of a batch. Differentiable
        scalar."""
        scores, targets = self._labelled(logits, labels)
        return summed_loss(scores, targets, temperature=temperature)

    def drawn_slope(
        self, logits: Tensor, labels: Tensor, temperature: float, generator: torch.Generator
    ) -> Tensor:
        """A scalar whose slope v with respect to the logits of a label is drawn so that E[v v'] is
        the second derivative of that label's loss. Its slope with respect to any inner tensor then
        has the Gauss-Newton matrix of the loss as its second moment; one backward pass draws it for
        all rows. With random signs e,
        v = (diag(p)^1/2 - p p^1/2') e has the moment diag(p) - p p'."""
        scores, _ = self._labelled(logits, labels)
        scaled = scores.float() / temperature
        p = scaled.detach().softmax(dim=-1)
        drawn = p.sqrt() * _signs(p, generator)
        return ((drawn - p * drawn.sum(dim=-1, keepdim=True)) * scaled).sum()

    def fitted(self, statistics: Tensor, weights: Tensor) -> float:
        """The temperature at which the loss of these rows is smallest; NaN if a loss is not finite.
        One below 1 must be worth its price (_PRICE)."""
        sums = statistics.double().sum(dim=0).numpy()
        if not np.isfinite(sums).all():
            return math.nan
        best = self._lowest(sums)
        return (
            best if best >= 1 else min(1.0, self._lowest(sums + _PRICE * np.log2(self.grid) ** 2))
        )

    def _lowest(self, sums: np.ndarray) -> float:
        """The temperature at which a spline through these sums [temperatures] is lowest."""
        curve = CubicSpline(np.arange(len(sums)), sums)
        places = [0.0, len(sums) - 1.0, *curve.derivative().roots(extrapolate=False)]
        return float(self.grid[0] * 2 ** (min(places, key=curve) / _OCTAVE))

    def exact(self, temperature: float) -> float:
        """The nearest temperature at which `losses` are exact, not interpolated."""
        return float(self.grid[np.abs(np.log(self.grid / temperature)).argmin()])

    def losses(self, statistics: Tensor, temperature: float, weights: Tensor) -> Tensor:
        """The loss of each row at this temperature, summed over its labels [rows]."""
        # the losses were not finite: the model diverged, about which the caller warns
        if math.isnan(temperature):
            return torch.full_like(weights, math.nan, dtype=torch.float64)
        last = len(self.grid) - 1
        place = min(max(math.log2(temperature / self.grid[0]) * _OCTAVE, 0.0), last)
        # A spline is linear in its values: this is the part of each temperature's loss.
        by = CubicSpline(np.arange(last + 1), np.eye(last + 1))(place)
        return statistics.double() @ torch.from_numpy(by).to(statistics.device)

    def _labelled(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [labels, classes] and labels [labels] of all positions that have a label."""
        if self.shifted:
            logits = logits[:, :-1]
            labels = labels[:, 1:]
        known = labels != IGNORED
        return logits[known], labels[known]


class Binary(Categorical):
    """The log loss of several labels a row, each 0 or 1, in nats; a row's weight is the number of
    its labels."""

    def statistics(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        scores = logits.float()
        sums = [self._of_labels(scores / float(at), labels).sum(dim=1) for at in self.grid]
        found = torch.stack(sums, dim=1)
        return found, self.weights(logits, labels).to(found)

    def weights(self, logits: Tensor, labels: Tensor) -> Tensor:
        return torch.full((len(labels),), labels.shape[1])

    def loss(self, logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
        return self._of_labels(logits.float() / temperature, labels).sum()

    def drawn_slope(
        self, logits: Tensor, labels: Tensor, temperature: float, generator: torch.Generator
    ) -> Tensor:
        """As of Categorical; the second derivative of a label's loss is p (1 - p)."""
        scaled = logits.float() / temperature
        p = scaled.detach().sigmoid()
        return ((p * (1 - p)).sqrt() * _signs(p, generator) * scaled).sum()

    @staticmethod
    def _of_labels(scores: Tensor, labels: Tensor) -> Tensor:
        """The loss of each label [rows, labels]."""
        return binary_cross_entropy_with_logits(scores, labels.float(), reduction="none")


class Gaussian:
    """The log loss of numbers, one or several for each row, with a normal error, whose variance
    serves as temperature. The methods are those of Categorical."""

    width = 1

    def labelled_positions(self, labels: Tensor) -> Tensor | None:
        return None

    def weights(self, logits: Tensor, labels: Tensor) -> Tensor:
        return torch.full((len(labels),), labels[0].numel())

    def exact(self, temperature: float) -> float:
        return temperature

    def statistics(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        error = logits.float() - labels.float().view_as(logits)
        squared = error.square().view(len(labels), -1).sum(dim=1, keepdim=True)
        return squared, self.weights(logits, labels).to(squared)

    def loss(self, logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
        squared, weights = self.statistics(logits, labels)
        return self._nats(squared.flatten(), temperature, weights).sum()

    def drawn_slope(
        self, logits: Tensor, labels: Tensor, temperature: float, generator: torch.Generator
    ) -> Tensor:
        found = logits.float() / math.sqrt(temperature)
        return (found * _signs(found, generator)).sum()

    def fitted(self, statistics: Tensor, weights: Tensor) -> float:
        return max(float(statistics.double().sum() / weights.double().sum()), 1e-12)

    def losses(self, statistics: Tensor, temperature: float, weights: Tensor) -> Tensor:
        return self._nats(statistics[:, 0].double(), temperature, weights.double())

    @staticmethod
    def _nats(squared: Tensor, variance: float, weights: Tensor) -> Tensor:
        return squared / (2 * variance) + weights * (math.log(2 * math.pi * variance) / 2)


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    """Random signs, 1 or -1, in the shape of `like`; the same on every device."""
    return (2 * torch.randint(0, 2, like.shape, generator=generator, dtype=torch.int8) - 1).to(like)


Likelihood = Categorical | Gaussian


def mean_loss(likelihood: Likelihood, statistics: Tensor, weights: Tensor) -> float:
    """The mean loss over all labels, in nats; of numbers the mean squared error. As
    `Likelihood.statistics` gives them: `statistics` [rows, numbers], `weights` [rows]."""
    sums = statistics
    if not isinstance(likelihood, Gaussian):
        sums = likelihood.losses(statistics, 1.0, weights)
    return float(sums.sum() / weights.sum())


def likelihood_of(scoring: Scoring) -> Likelihood:
    """The Likelihood for a kind of labels."""
    if scoring.regression:
        return Gaussian()
    if scoring.several:
        return Binary()
    return Categorical(shifted=scoring.peft_type == TaskType.CAUSAL_LM)
