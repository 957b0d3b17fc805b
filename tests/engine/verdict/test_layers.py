"""Of which layers a verdict knows the widths, and that it trains nothing where these let no rank change."""

from collections.abc import Callable
from typing import Any

import pytest

from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_json
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.verdict.layers import arms_of
from tests.helpers.methods import NAMES, SIZE
from tests.helpers.verdicts import FakeLauncher, better


@pytest.mark.trains
def test_the_model_is_asked_for_widths_only_where_a_rank_exceeds_that_of_the_search(
    tiny_config: Callable[..., RunConfig],
) -> None:
    """The search trained as many components in every layer, so that every layer can have as high a rank."""
    config = tiny_config("--lora.target_modules", "[query, value]")
    folder = RunFolder.of(config)
    layers = [{"name": name, "rank": rank} for name, rank in zip(NAMES, (1, 4, 2, 3), strict=True)]
    write_json(folder.ranks, {"k": 4, "layers": layers})
    sizes = dict.fromkeys(NAMES, SIZE)
    for k, largest in ((4, None), (3, dict.fromkeys(NAMES, SIZE // 2))):
        write_json(folder.search_summary, {"parameters_per_rank": sizes, "settings": {"lora.k": k}})
        arms = arms_of(config, folder, StopRequest())
        assert (arms.sizes, arms.largest) == (sizes, largest)
        assert arms.shuffle_changes
    folder.search_summary.unlink()
    write_json(folder.grid, {"parameters_per_rank": sizes})
    assert arms_of(config, folder, StopRequest()).largest == dict.fromkeys(NAMES, SIZE // 2)


@pytest.mark.trains
def test_where_layers_are_too_narrow_for_each_others_ranks_nothing_is_trained(
    verdict: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All pairs were trained, at the same ranks on both sides."""
    shapes = {name: (62, 2) if name.endswith("query") else (32, 32) for name in NAMES}
    monkeypatch.setattr("autolora.engine.verdict.layers.layer_shapes", lambda model: shapes)
    launcher = FakeLauncher(better(0.3))
    found, _ = verdict(launcher, ranks=[2, 8, 2, 8])
    assert (found["ending"], found["pairs"], launcher.trained) == ("undecided", 0, [])
    assert "too narrow for each other's ranks" in found["sentence"]
    found, _ = verdict(launcher, "--name", "other", ranks=[2, 8, 1, 8])
    assert found["pairs"] > 0
