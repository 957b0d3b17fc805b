"""The registry: named alike everywhere, and beside Betty's own entries."""

import betty.hypergradient as stock
import pytest

from autolora.problems.hypergradients import HYPERGRADIENTS, NONE, betty_type
from tests.helpers.bilevel_toys import METHODS


@pytest.mark.parametrize("method", METHODS)
def test_betty_finds_it_under_a_name_of_its_own(method: str) -> None:
    assert stock.jvp_fn_mapping[betty_type(method)] is HYPERGRADIENTS[method]
    assert HYPERGRADIENTS[method].name == method
    assert stock.jvp_fn_mapping[betty_type("none")] is NONE


def test_bettys_own_entries_are_untouched() -> None:
    """Who asks Betty for `darts` in the same process gets Betty's."""
    theirs = {name: entry for name, entry in stock.jvp_fn_mapping.items() if not name.startswith(betty_type(""))}
    assert sorted(theirs) == ["cg", "darts", "neumann", "reinforce", "sama"]
    for name, entry in theirs.items():
        assert (entry.__module__, entry.__name__) == (f"betty.hypergradient.{name}", name)
