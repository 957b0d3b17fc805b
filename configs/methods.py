"""What each method is: a table of facts, from which the checks of settings and the stages take what they need to know.

It needs no torch, so that impossible settings are refused before torch is loaded. A test compares its methods with
`MethodName` of the schema, which the command line needs as a Literal.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from autolora.configs.schema import MethodName


@dataclass(frozen=True)
class MethodFacts:
    """The facts about one method."""

    trains: Literal["lora", "own_lora", "part", "all", "head"]
    """lora: plain LoRA at ranks that are known before the training; own_lora: LoRA in a way of the method's own; part:
    some weights inside the base model's blocks; all: every weight; head: nothing inside the blocks."""
    search: Literal["gradients", "trials"] | None = None
    """How its ranks are searched on D_val: trials are trainings at several choices of ranks."""
    rule: str = ""
    """`rule` in the ranks.json that it writes; "" if it writes none, or (autolora) that of answer.rule."""
    reads: tuple[str, ...] = ()
    """The keys, or sections, that it reads and some other methods do not. This leaves out those that follow from the
    other facts, such as `search`, which no method without a search by gradients reads."""
    at_given_ranks: bool = False
    """Whether layers, ranks and k are those of the file in lora.ranks_from, so that it cannot do without one."""
    merged: bool = False
    """Whether it always saves the whole model, in merged/."""


# Messages name the methods that read a key in the order of this table.
FACTS: Mapping[MethodName, MethodFacts] = {
    "autolora": MethodFacts("lora", search="gradients"),
    "lora": MethodFacts("lora", rule="uniform", reads=("lora.r",)),
    "adalora": MethodFacts("own_lora", rule="adalora", reads=("lora.r",)),
    "eva": MethodFacts("own_lora", rule="eva", reads=("lora.r", "lora.rho")),
    "para": MethodFacts("own_lora", rule="para", reads=("lora.r", "lora.budget")),
    "optuna": MethodFacts(
        "lora", search="trials", rule="optuna", reads=("lora.r", "lora.budget", "lora.trials"),
    ),
    "lora_grid": MethodFacts("lora", search="trials", rule="grid", reads=("lora.grid",)),
    "lora_ranks": MethodFacts("lora", rule="given", reads=("lora.ranks_from",), at_given_ranks=True),
    "lora_shuffled": MethodFacts(
        "lora", rule="shuffled", reads=("lora.ranks_from", "lora.shuffle", "lora.draw", "lora.draw_seed"),
        at_given_ranks=True,
    ),
    "lora_random": MethodFacts(
        "lora", rule="random",
        reads=("lora.r", "lora.budget", "lora.cap", "lora.ranks_from", "lora.draw", "lora.draw_seed"),
    ),
    "adapter": MethodFacts("part", reads=("adapter",)),
    "head": MethodFacts("head", merged=True),
    "full": MethodFacts("all", merged=True),
}  # fmt: skip

READ_BY_SOME = tuple(dict.fromkeys(key for facts in FACTS.values() for key in facts.reads))
"""The keys and sections that `reads` of any method has."""


def readers(key: str) -> list[MethodName]:
    """The methods whose `reads` has this key."""
    return [method for method, facts in FACTS.items() if key in facts.reads]
