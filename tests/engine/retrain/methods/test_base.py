"""What methods share: the file that a control takes its ranks from."""

from collections.abc import Callable
from pathlib import Path

from configs.schema import RunConfig
from engine.retrain.methods.base import ranks_from


def test_the_file_of_ranks_may_stand_for_each_cell_of_a_study(tiny_config: Callable[..., RunConfig]) -> None:
    given = "{runs}/seed-{seed}_name-{task}/ranks.json"
    config = tiny_config("--method", "lora_shuffled", "--lora.ranks_from", given, "--seed", "7")
    assert ranks_from(config) == Path(config.runs_folder) / "seed-7_name-sample" / "ranks.json"
