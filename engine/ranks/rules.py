"""alpha -> which components are kept: the paper's threshold (AutoLoRA section 4.4), and a parameter budget."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from configs.errors import UserError
from configs.schema import Constraint, SearchConfig

# Constraints under which the alphas of a layer sum to 1, so that 1/k is the share of each at the uniform start.
SHARES = {"softmax"}

# alpha is a float: at the uniform start it may miss lambda = 1/k by a rounding error, where the rule says "kept".
_ROUNDING = 1e-6


def thresholds(alpha: Tensor, constraint: Constraint) -> Tensor:
    """lambda of each layer [layers, 1]: 1/k for softmax (4.4), 1/2 for sigmoid, sum(alpha)/k for none (Table 4)."""
    k = alpha.shape[1]
    if constraint == "none":
        return alpha.sum(dim=1, keepdim=True) / k
    return torch.full((alpha.shape[0], 1), 1.0 / k if constraint in SHARES else 0.5, dtype=alpha.dtype)


def kept_components(alpha: Tensor, constraint: Constraint) -> Tensor:
    """Which components stay by threshold: alpha_l^j >= lambda_l. Boolean [layers, k]."""
    bound = thresholds(alpha, constraint)
    return alpha >= bound - _ROUNDING * bound.abs()


def kept_within(contribution: Tensor, sizes: Sequence[int], budget: int) -> Tensor:
    """Which components stay when `budget` parameters go to the largest contributions of all layers.

    `contribution`, result [layers, k]; `sizes` [layers]: parameters of one component. A component without room is
    passed over for the next that fits; of equal ones the first layer's comes first. Ours, not the paper's: a layer may
    keep none.
    """
    kept = torch.zeros(contribution.shape, dtype=torch.bool)
    left, k = budget, contribution.shape[1]
    for place in contribution.flatten().argsort(descending=True, stable=True).tolist():
        size = sizes[place // k]
        if size <= left:
            kept.view(-1)[place] = True
            left -= size
    return kept


def largest_components(contribution: Tensor, rank: int) -> Tensor:
    """The `rank` largest of one layer's components, as `kept_within` orders them. Boolean [k]."""
    return kept_within(contribution.unsqueeze(0), [1], rank)[0]


@dataclass(frozen=True)
class RankRule:
    """The rule of one search: `threshold`, or `budget` with its number of LoRA parameters.

    `sizes`: name -> parameters of one rank-1 component, in the order of the gates.
    """

    constraint: Constraint
    sizes: Mapping[str, int]
    budget: int | None = None

    @property
    def name(self) -> str:
        """What ranks.json calls it."""
        return "threshold" if self.budget is None else "budget"

    def kept(self, alpha: Tensor, contribution: Tensor) -> Tensor:
        """Which components stay. alpha, contribution, result [layers, k]."""
        if self.budget is None:
            return kept_components(alpha, self.constraint)
        return kept_within(contribution, list(self.sizes.values()), self.budget)

    def bounds(self, alpha: Tensor) -> Tensor | None:
        """lambda of each layer [layers] for alpha [layers, k]; None where no lambda decides."""
        return thresholds(alpha, self.constraint).flatten() if self.budget is None else None


def rule_of(search: SearchConfig, sizes: Mapping[str, int]) -> RankRule:
    """The configured rule; `search.budget`, an average rank, becomes the parameters of that rank in every layer.

    Raises UserError for a budget in which some layer's component has no room.
    """
    if search.rule == "threshold":
        return RankRule(search.constraint, sizes)
    total, largest = sum(sizes.values()), max(sizes.values())
    if search.budget * total < largest:
        raise UserError(
            f"--search.budget: {search.budget:g} is not allowed for this model; allowed: {largest / total:.3g} or "
            f"more, one component of the largest layer"
        )
    return RankRule(search.constraint, sizes, int(search.budget * total))
