"""A hypergradient in a file of the user's own: searches and studies take it as one of the program's."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from autolora.configs.schema import RunConfig
from autolora.engine.run.context import Context
from autolora.engine.search.search import search

KEY = "hypergradient.type"


@pytest.fixture
def own(tmp_path: Path) -> str:
    """A file with the central difference and the exact product under names of one's own."""
    (tmp_path / "mine.py").write_text(
        "from autolora.configs import search\nfrom autolora.problems.hypergradients import Darts, Exact\n\n\n"
        "class Mine(Darts):\n    def __init__(self):\n        super().__init__(search.Darts())\n\n\n"
        "class Second(Exact):\n    second_order = True\n\n"
        "    def __init__(self):\n        super().__init__(search.Exact())\n"
    )
    return str(tmp_path / "mine.py")


@pytest.mark.trains
@pytest.mark.parametrize(("name", "same"), [("Mine", "darts"), ("Second", "exact")])
def test_a_search_by_it_ends_with_the_same_bits(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], own: str, name: str, same: str
) -> None:
    found = {}
    for chosen in (f"{own}:{name}", same):
        run = run_of(tiny_config(f"--{KEY}", chosen, "--name", name if ":" in chosen else same))
        alpha = search(run).alpha()
        found[chosen] = alpha, load_file(run.folder.search_weights)
    (alpha, weights), (alpha_of_same, weights_of_same) = found.values()
    assert torch.equal(alpha, alpha_of_same)
    assert not torch.equal(alpha, torch.full_like(alpha, float(alpha.mean()))), "alpha has moved"
    assert all(torch.equal(weights[key], weights_of_same[key]) for key in weights_of_same)
