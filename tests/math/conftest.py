"""Runs on tiny models, and what their searches are made of."""

from collections.abc import Callable

import pytest

from autolora.configs.schema import RunConfig
from autolora.engine.run.context import Context
from autolora.engine.search.search import SearchEngine, build_search


@pytest.fixture
def new_run(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> Callable[..., Context]:
    """new_run("--search.steps", "4", kind="gpt2"): a run with these settings; `stop`: its
    StopRequest."""
    return lambda *arguments, stop=None, **model: run_of(tiny_config(*arguments, **model), stop)


@pytest.fixture
def built(new_run: Callable[..., Context]) -> Callable[..., SearchEngine]:
    """built("--seed", "1", kind="gpt2"): the engine of a tiny search, before its first step."""

    def make(*arguments: str, **model: object) -> SearchEngine:
        run = new_run(*arguments, **model)
        return build_search(run, second_order=run.searched.hypergradient.second_order)

    return make
