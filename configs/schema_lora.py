"""The configuration of LoRA, and of the bottleneck adapters that it is compared with."""

from dataclasses import dataclass, field
from typing import Literal

from configs import ranges


@dataclass(frozen=True)
class LoraSettings:
    """Where LoRA sits and how large it starts."""

    target_modules: ranges.Targets = field(default_factory=lambda: ["query", "value"])
    """Module names (or endings of names) that get LoRA. Paper: query and value projections. GPT-2 makes query, key and
    value by one layer: c_attn has one rank for all three, [c_attn.q, c_attn.v] a rank for each that is named.
    all-linear: every linear layer of every block, but none of head, pooler, output embedding or modules_to_save."""
    modules_to_save: ranges.Modules = None
    """Modules (names or their endings) that are trained whole beside LoRA and the task head, and kept in the adapter:
    PEFT's modules_to_save. null: the pooler of an encoder that came without a trained one, else none."""
    k: ranges.Rank = 8
    """Rank-1 components per layer at the start of the search. Paper: 8."""
    lora_alpha: ranges.Positive = 16.0
    """LoRA's scale numerator: the update is multiplied by lora_alpha / k."""
    dropout: ranges.ShareFromZero = 0.0
    """Dropout on LoRA's input, 0 to below 1."""
    r: ranges.Rank = 4
    """Rank of every layer for the method lora; on average for adalora and eva, without budget for para, optuna and
    lora_modules, and without ranks_from for lora_random. Paper's LoRA baseline: 4."""
    budget: ranges.BudgetOrNull = None
    """para, optuna, lora_modules: LoRA parameters of the result, as an average rank over the layers (0.5: half of
    those of rank 1 in every layer), for para up to k; null: r."""
    module_sets: ranges.ModuleSets = field(default_factory=list)
    """lora_modules: sets of module names (or endings) among target_modules to choose from, as [[query, value],
    [query]], each at the largest rank that the budget allows. Empty: each type alone, then the best two together, the
    best three, up to all: eleven trainings for six types."""
    trials: ranges.Count = 8
    """optuna: how many ranks are tried; each is trained on D_tr, and the best on D_val is retrained. The first are
    uniform, the others of the first half (at most ten) are drawn at random, the rest by TPE."""
    rho: ranges.Rho = 2.0
    """eva: how far ranks may go from r, as no layer gets more than rho * r; 1: r in every layer. PEFT: 2."""
    grid: ranges.Ranks = field(default_factory=lambda: [1, 2, 4, 8])
    """Method lora_grid: ranks to try for each target module, in every combination (16 for two targets); each
    combination is trained on D_tr, and the one that is best on D_val is retrained."""
    ranks_from: ranges.FilePathOrNull = None
    """lora_ranks, lora_shuffled (both require it), lora_random: the ranks.json of the run to be compared with; {seed}
    and {task} stand for this run's, {runs} for its runs_folder (a study's cells lie in one)."""
    shuffle: Literal["size", "type"] = "size"
    """lora_shuffled: the layers among which ranks are permuted. size: layers with equally many LoRA parameters per
    rank; type: layers of one module type, as all query projections."""
    draw: ranges.CountFromZero = 0
    """lora_shuffled, lora_random: which of the draws of a seed; 0 is the first."""

    def __post_init__(self) -> None:
        if self.target_modules == ranges.ALL_LINEAR:  # the bare word; from here on there are only lists
            object.__setattr__(self, "target_modules", [ranges.ALL_LINEAR])


@dataclass(frozen=True)
class AdapterSettings:
    """Method adapter: Houlsby's bottlenecks (arXiv 1902.00751)."""

    bottleneck: ranges.Width = 4
    """Width of each bottleneck; 4 has about the parameters of lora.r 4 on query and value. Houlsby: 8, 64 or 256."""
