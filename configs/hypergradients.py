"""The built-in hypergradients: what each reads and needs.

It stands here, as settings are checked before torch is loaded. A test compares it with the registry in
problems/hypergradients/.
"""

from typing import TYPE_CHECKING, Literal, NamedTuple


class Facts(NamedTuple):
    """What is true of one hypergradient."""

    reads: tuple[str, ...] = ("eta",)
    """The keys of the section hypergradient that it reads, besides its type. One without eta has no implicit term."""
    second_order: bool = False
    """Whether it needs second derivatives."""
    reads_steps: bool = False
    """Whether it reads all inner steps since the last outer step."""
    may_hide: bool = False
    """Whether its implicit term can be far larger than a direct one that has not vanished."""

    @property
    def difference(self) -> bool:
        """Whether it takes a finite difference."""
        return "radius" in self.reads


_DIFFERENCE = ("eta", "radius")
_SERIES = ("eta", "terms")

BUILT_IN = {
    "first_order": Facts(reads=()),
    "darts": Facts(_DIFFERENCE),
    "forward_difference": Facts(_DIFFERENCE),
    "sama": Facts(_DIFFERENCE, may_hide=True),
    "neumann": Facts(_SERIES, second_order=True, may_hide=True),
    "cg": Facts(_SERIES, second_order=True),
    "exact": Facts(second_order=True),
    "exact_adamw": Facts(second_order=True),
    "unrolled": Facts(second_order=True, reads_steps=True, may_hide=True),
    "none": Facts(reads=()),
}

# The type of their names; a type checker takes no Literal that is made from a table.
if TYPE_CHECKING:
    BuiltIn = str
else:
    BuiltIn = Literal[tuple(BUILT_IN)]
