"""The registry: named alike everywhere, documented alike, and beside Betty's own entries."""

import betty.hypergradient as stock
import pytest

from autolora.problems.hypergradients import HYPERGRADIENTS, NONE, betty_type
from tests.helpers.bilevel_toys import METHODS


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("said", ["At:", "eta:", "Source:"])
def test_the_docstring_says(method: str, said: str) -> None:
    assert said in (type(HYPERGRADIENTS[method]).__doc__ or "")


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


def test_why_reinforce_is_not_offered() -> None:
    """Betty 0.2.1 calls every entry with four arguments; this one takes three, and its body returns nothing."""
    with pytest.raises(TypeError, match="takes 3 positional arguments but 4 were given"):
        stock.jvp_fn_mapping["reinforce"]([], None, None, False)
