"""What a command wants to do in a folder."""

from collections.abc import Callable

import pytest

from autolora.configs.schema import RunConfig, Stage
from autolora.engine.run.asked import Asked
from autolora.engine.run.folder import RunFolder

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("stage", "overwrite", "replaces"),
    [("all", True, True), ("retrain", True, True), ("all", False, False), ("report", True, False)],
)
def test_only_an_overwrite_that_trains_writes_beside_the_old_results(
    tiny_config: Callable[..., RunConfig], stage: Stage, overwrite: bool, replaces: bool
) -> None:
    config = tiny_config()
    assert Asked(config, RunFolder.of(config), stage, overwrite).replaces is replaces
