"""The configuration of LoRA, and of the bottleneck adapters that it is compared with."""

from dataclasses import dataclass, field
from typing import Literal

from autolora.configs import ranges


@dataclass(frozen=True)
class LoraSettings:
    """Which layers get LoRA, how it starts, and how the methods other than autolora set its ranks."""

    target_modules: ranges.Targets = field(default_factory=lambda: ["query", "value"])
    """Module names (or endings of names) that get LoRA. Paper: query and value projections. GPT-2 computes query, key
    and value in one layer: c_attn gives all three one rank, "[c_attn.q,c_attn.v]" gives each named one its own rank.
    all-linear: every linear layer of every block, without head, pooler, output embedding and modules_to_save."""
    modules_to_save: ranges.Modules = None
    """Modules (names or their endings) that are trained whole beside LoRA and the task head, and saved in the adapter:
    PEFT's modules_to_save. null: the pooler if the encoder was loaded without trained weights for it, else none."""
    k: ranges.Rank = 8
    """Rank-1 components per layer at the start of the search. Paper: 8."""
    lora_alpha: ranges.Positive = 16.0
    """LoRA's scale numerator: the search multiplies the update by lora_alpha / k, the retraining as
    retrain.scale says."""
    dropout: ranges.ShareFromZero = 0.0
    """Dropout on LoRA's input, 0 to below 1."""
    r: ranges.Rank = 4
    """lora: the rank of every layer. adalora, eva: the average rank. para, optuna, and lora_random
    without ranks_from: the average rank if lora.budget is null. Paper's LoRA baseline: 4."""
    budget: ranges.BudgetOrNull = None
    """para, optuna, lora_random: how many LoRA parameters the result may have, given as an average rank
    over the layers (0.5: half as many as rank 1 in every layer takes). para: at most lora.k. null: the value of
    lora.r."""
    cap: ranges.RankOrNull = None
    """lora_random: the highest rank that a layer may get. 1: rank 1 in layers that are drawn at random, none in the
    others. null: lora.k, or more if the number of parameters needs it."""
    trials: ranges.Count = 8
    """optuna: how many trials are trained on D_tr; the ranks of the trial that is best on D_val are retrained. The
    first trial has ranks as even as the budget allows, the rest of the first half (at most ten) random ranks; TPE
    proposes the others."""
    rho: ranges.Rho = 2.0
    """eva: no layer gets a rank above rho * r. 1: r in every layer. PEFT's default: 2."""
    grid: ranges.Ranks = field(default_factory=lambda: [1, 2, 4, 8])
    """Method lora_grid: ranks to try for each target module, in every combination (16 for two targets); each
    combination is trained on D_tr, and the one that is best on D_val is retrained."""
    ranks_from: ranges.FilePathOrNull = None
    """lora_ranks and lora_shuffled (required), lora_random (optional): the ranks.json of the run to compare with, or
    the folder of that run. In the path, {seed} and {task} stand for this run's seed and task, {runs} for its
    runs_folder (in a study, the same for all cells)."""
    shuffle: Literal["size", "type"] = "size"
    """lora_shuffled: the layers among which ranks are permuted. size: layers with the same number of LoRA parameters
    per rank; type: layers of one module type, such as all query projections."""
    draw: ranges.CountFromZero = 0
    """lora_shuffled, lora_random: which random draw to use for this seed; 0 is the first."""
    draw_seed: ranges.SeedOrNull = None
    """lora_shuffled, lora_random: the seed of the random draw. null: the run's seed; a number lets runs of several
    seeds train at the same ranks."""

    def __post_init__(self) -> None:
        if self.target_modules == ranges.ALL_LINEAR:  # the word without brackets; later code sees lists only
            object.__setattr__(self, "target_modules", [ranges.ALL_LINEAR])


@dataclass(frozen=True)
class AdapterSettings:
    """Method adapter: Houlsby's bottlenecks (arXiv 1902.00751)."""

    bottleneck: ranges.Width = 4
    """Width of each bottleneck. 4 has about as many parameters as lora.r 4 on query and value. Houlsby: 8, 64 or
    256."""
