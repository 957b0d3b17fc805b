"""Runs on tiny models, and what their searches are made of."""

from collections.abc import Callable

import pytest

from autolora.configs.schema import RunConfig
from autolora.engine.search.engine import SearchEngine
from tests.helpers.stages import Stages


@pytest.fixture
def new_run(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Stages]
) -> Callable[..., Stages]:
    """new_run("--search.steps", "4", kind="gpt2"): a run with these settings; `stop`: its
    StopRequest."""
    return lambda *arguments, stop=None, **model: run_of(tiny_config(*arguments, **model), stop)


@pytest.fixture
def built(new_run: Callable[..., Stages]) -> Callable[..., SearchEngine]:
    """built("--seed", "1", kind="gpt2"): the engine of a tiny search, before its first step."""

    def make(*arguments: str, **model: object) -> SearchEngine:
        run = new_run(*arguments, **model)
        return run.engine()

    return make
