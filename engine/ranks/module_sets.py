"""Candidate places for LoRA: sets of module types, each at the largest whole rank that a parameter budget allows."""

import dataclasses
from collections.abc import Mapping, Sequence

from autolora.configs.errors import UserError
from autolora.configs.methods import FACTS
from autolora.engine.ranks.grid import grid_of
from autolora.engine.ranks.record import LayerRank, RankRecord, count_parameters
from autolora.problems.models.parts import matches


@dataclasses.dataclass(frozen=True)
class ModuleSets:
    """Makes candidates: sets of module types, each with one rank that fits the budget.

    `kinds`: word (a module type, or a name that the user gave) -> its layers; `shapes`: layer -> (outputs, inputs) of
    every layer that may have LoRA; `budget`: in LoRA parameters.
    """

    kinds: Mapping[str, Sequence[str]]
    shapes: Mapping[str, tuple[int, int]]
    budget: int

    def layers(self, words: Sequence[str]) -> list[str]:
        """The layers of all the words together, in the model's order."""
        named = {name for word in words for name in self.kinds[word]}
        return [name for name in self.shapes if name in named]

    def tried(self, words: Sequence[str]) -> dict[str, int]:
        """The candidate for a set of words: each word -> the same rank, the largest at which all layers of the set fit
        the budget; 0 if they do not fit even at rank 1."""
        layers = self.layers(words)
        room = self.budget // sum(sum(self.shapes[name]) for name in layers)
        return dict.fromkeys(words, min(room, *(min(self.shapes[name]) for name in layers)))

    def record(self, tried: Mapping[str, int], k: int) -> RankRecord:
        """The ranks that a candidate gives the layers: 0 outside its set. The record's note says how much of the
        budget is unused."""
        rank, inside = next(iter(tried.values())), set(self.layers(list(tried)))
        layers = tuple(LayerRank(name, rank if name in inside else 0) for name in self.shapes)
        made = RankRecord(k, layers, rule=FACTS["lora_modules"].rule)
        left = self.budget - count_parameters(made.kept, {name: sum(shape) for name, shape in self.shapes.items()})
        return dataclasses.replace(made, note=f"{left} LoRA parameters below the budget" if left else None)

    def alone(self) -> list[dict[str, int]]:
        """The candidates of one kind each, if rank 1 fits the budget. Raises UserError if it fits for no kind."""
        found = [tried for word in self.kinds if (tried := self.tried([word]))[word] > 0]
        if not found:
            least = min(sum(sum(self.shapes[name]) for name in layers) for layers in self.kinds.values())
            raise UserError(
                f"--lora.budget: it gives {self.budget:,} LoRA parameters, too few for rank 1 in any type of module; "
                f"allowed: {least:,} parameters or more, which is rank 1 in every layer of the smallest type"
            )
        return found

    def joined(self, best_first: Sequence[str]) -> list[dict[str, int]]:
        """The candidates of the best two kinds together, the best three, and so on, if rank 1 fits the budget."""
        sets = (self.tried(best_first[: i + 1]) for i in range(1, len(best_first)))
        return [tried for tried in sets if min(tried.values()) > 0]

    def given(self, sets: Sequence[Sequence[str]]) -> list[dict[str, int]]:
        """The candidates that the user named. Raises UserError for a set in which rank 1 does not fit the budget."""
        found = [self.tried(words) for words in sets]
        for words, tried in zip(sets, found, strict=True):
            if min(tried.values()) == 0:
                needed = sum(sum(self.shapes[name]) for name in self.layers(words))
                raise UserError(
                    f"--lora.module_sets: [{', '.join(words)}] does not fit {self.budget:,} LoRA parameters; rank "
                    f"1 in each of its layers takes {needed:,}; allowed: smaller sets, or a larger --lora.budget"
                )
        return found


def module_sets(shapes: Mapping[str, tuple[int, int]], budget: int, sets: Sequence[Sequence[str]] = ()) -> ModuleSets:
    """Makes ModuleSets of the layers in `shapes`. The kinds are the words in `sets` (names or their endings) or,
    without `sets`, the layers' types as the rank map names them. Raises UserError for a word that matches no layer."""
    words = dict.fromkeys(word for one in sets for word in one)
    kinds = {word: [name for name in shapes if matches(name, word)] for word in words} or _types(list(shapes))
    missing = next((word for word, found in kinds.items() if not found), None)
    if missing is not None:
        types = ", ".join(_types(list(shapes)))
        raise UserError(
            f"--lora.module_sets: {missing} matches no layer of --lora.target_modules; the types of these "
            f"layers: {types}"
        )
    return ModuleSets(kinds, shapes, budget)


def _types(names: Sequence[str]) -> dict[str, list[str]]:
    grid = grid_of(names)
    found: dict[str, list[str]] = {word: [] for word in grid.projections}
    for name, (_, column) in zip(names, grid.cells, strict=True):
        found[grid.projections[column]].append(name)
    return found
