"""A half-done run goes on under the settings it began with, or not at all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import yaml

from configs.errors import UserError
from configs.files import to_yaml
from configs.schema import RunConfig, Stage
from engine.disk import checkpoint
from engine.disk.files import write_text
from engine.run.folder import RunFolder
from engine.run.resuming import refuse_other_config, refuse_other_results


def half_search(folder: RunFolder) -> None:
    checkpoint.save(folder.search_checkpoint, {"x": torch.ones(1)}, {})


def half_retrain(folder: RunFolder) -> None:
    write_text(folder.ranks, "{}")
    folder.retrain.mkdir()


def half_choice(folder: RunFolder) -> None:
    folder.trials.mkdir()


def half_grid(folder: RunFolder) -> None:
    write_text(folder.grid, "{}")


def swept(folder: RunFolder) -> None:
    write_text(folder.ranks, "{}")
    write_text(folder.sweep, "{}")


REFUSED = [
    (half_search, ("--search.steps", "9"), r"^--search\.steps: .* half-done run with 6, now it is 9"),
    (half_search, ("--seed", "1"), r"^--seed: "),
    (half_search, ("--lora.k", "8"), r"^--lora\.k: "),
    (half_search, ("--hypergradient.type", "sama"), r"^--hypergradient\.type: .*'darts', now it is 'sama'"),
    (half_retrain, ("--retrain.learning_rate", "1"), r"^--retrain\.learning_rate: "),
    (half_retrain, ("--lora.lora_alpha", "1"), r"^--lora\.lora_alpha: "),
    (half_choice, ("--task.metrics", "[f1_macro]"), r"^--task\.metrics: "),
    (half_grid, ("--retrain.epochs", "9"), r"^--retrain\.epochs: "),
    (swept, ("--retrain.epochs", "9"), r"^--retrain\.epochs: "),
    (half_search, ("--task.evaluation_split", "test"), r"^--task\.evaluation_split: "),
    (half_search, ("--search.patience", "3"), r"^--search\.patience: "),
    (half_retrain, ("--retrain.batch_size", "4"), r"^--retrain\.batch_size: "),
    (half_retrain, ("--lora.r", "2"), r"^--lora\.r: "),
    (half_retrain, ("--task.label_smoothing", "0"), r"^--task\.label_smoothing: "),
    (half_choice, ("--retrain.learning_rates", "[1e-3]"), r"^--retrain\.learning_rates: "),
    (half_grid, ("--lora.grid", "[1,2]"), r"^--lora\.grid: "),
]


@pytest.mark.parametrize(("half", "change", "message"), REFUSED, ids=lambda value: getattr(value, "__name__", str(value))[:40])
def test_a_changed_setting_is_refused_by_name(
    begun: RunFolder,
    tiny_config: Callable[..., RunConfig],
    half: Callable[[RunFolder], None],
    change: tuple[str, str],
    message: str,
) -> None:
    refuse_other_config(tiny_config(*change), begun)
    half(begun)
    refuse_other_config(tiny_config(), begun)
    with pytest.raises(UserError, match=message):
        refuse_other_config(tiny_config(*change), begun)


ALLOWED = [
    (half_search, ("--search.checkpoint_every", "77")),
    (half_search, ("--retrain.learning_rate", "1")),
    (half_search, ("--tracking.wandb", "offline")),
    (half_search, ("--export.merged", "true")),
    (half_retrain, ("--retrain.checkpoint_every", "7")),
    (half_retrain, ("--retrain.eval_batch_size", "7")),
    (half_retrain, ("--export.padded", "true")),
    (half_search, ("--lora.r", "2")),
    (half_search, ("--lora.grid", "[1,2]")),
    (half_search, ("--adapter.bottleneck", "9")),
    (half_search, ("--task.metrics", "[f1_macro]")),
    (half_search, ("--decode.num_beams", "1")),
    (half_retrain, ("--decode.num_beams", "1")),
    (half_retrain, ("--task.metrics", "[f1_macro]")),
    (half_retrain, ("--task.evaluation_rows", "9")),
    (half_choice, ("--task.evaluation_rows", "9")),
    (half_choice, ("--retrain.eval_batch_size", "7")),
    (swept, ("--task.metrics", "[f1_macro]")),
    (swept, ("--decode.num_beams", "1")),
]


@pytest.mark.parametrize(("half", "change"), ALLOWED, ids=lambda value: getattr(value, "__name__", str(value))[:40])
def test_what_does_not_touch_the_half_done_stage_may_change(
    begun: RunFolder,
    tiny_config: Callable[..., RunConfig],
    half: Callable[[RunFolder], None],
    change: tuple[str, str],
) -> None:
    half(begun)
    refuse_other_config(tiny_config(*change), begun)


def test_a_kill_between_the_two_renames_of_a_checkpoint_is_half_done_too(
    begun: RunFolder, tiny_config: Callable[..., RunConfig]
) -> None:
    half_search(begun)
    half_search(begun)
    checkpoint.remove(begun.search_checkpoint)
    assert checkpoint.load(begun.search_checkpoint) is not None
    with pytest.raises(UserError, match=r"^--seed: "):
        refuse_other_config(tiny_config("--seed", "1"), begun)


def test_keys_that_an_earlier_version_did_not_have_are_at_their_defaults(
    begun: RunFolder, tiny_config: Callable[..., RunConfig]
) -> None:
    half_retrain(begun)
    before = yaml.safe_load(begun.config.read_text())
    del before["retrain"]["torch_compile"], before["retrain"]["scheduler"], before["study"]
    begun.config.write_text(yaml.safe_dump(before))
    refuse_other_config(tiny_config(), begun)
    refuse_other_results(tiny_config(), begun)
    with pytest.raises(UserError, match=r"^--retrain\.scheduler: .* 'linear', now it is 'constant'"):
        refuse_other_config(tiny_config("--retrain.scheduler", "constant"), begun)


def test_before_poolers_were_trained_they_were_frozen(begun: RunFolder, tiny_config: Callable[..., RunConfig]) -> None:
    """The new default would go on with other weights than the checkpoint has, or mix both kinds in one study."""
    half_search(begun)
    before = yaml.safe_load(begun.config.read_text())
    del before["lora"]["modules_to_save"]
    begun.config.write_text(yaml.safe_dump(before))
    refuse_other_config(tiny_config("--lora.modules_to_save", "[]"), begun)
    for check in (refuse_other_config, refuse_other_results):
        with pytest.raises(UserError, match=r"^--lora\.modules_to_save: .* \[\], now it is None"):
            check(tiny_config("--lora.modules_to_save", "null"), begun)


@pytest.fixture
def searched(begun: RunFolder) -> RunFolder:
    """Its search is done, its retraining has not begun."""
    begun.search_summary.parent.mkdir()
    write_text(begun.search_summary, "{}")
    write_text(begun.ranks, "{}")
    return begun


@pytest.mark.parametrize(
    ("stage", "change", "refused"),
    [
        ("all", ("--search.steps", "9"), True),
        ("all", ("--seed", "1"), True),
        ("all", ("--lora.lora_alpha", "1"), True),
        ("all", ("--task.train_rows", "32"), True),
        ("all", ("--retrain.epochs", "9"), False),
        ("all", ("--task.metrics", "[f1_macro]"), False),
        ("all", ("--lora.r", "2"), False),
        ("retrain", ("--model.name", "another"), False),
        ("retrain", ("--task.train_rows", "32"), False),
        ("retrain", ("--seed", "1"), False),
        ("report", ("--seed", "1"), False),
    ],
)
def test_ranks_are_not_taken_for_those_of_another_search(
    searched: RunFolder, tiny_config: Callable[..., RunConfig], stage: Stage, change: tuple[str, str], refused: bool
) -> None:
    refuse_other_config(tiny_config(), searched, stage)
    if refused:
        with pytest.raises(UserError, match=rf"^{change[0]}: .* holds ranks that were chosen .*--stage retrain"):
            refuse_other_config(tiny_config(*change), searched, stage)
    else:
        refuse_other_config(tiny_config(*change), searched, stage)


def test_the_split_of_a_users_table_decides_which_rows_a_search_saw(
    searched: RunFolder, tiny_config: Callable[..., RunConfig]
) -> None:
    text = ("--task.type", "text", "--task.path", "t.csv")
    write_text(searched.config, to_yaml(tiny_config(*text)))
    with pytest.raises(UserError, match=r"^--task\.evaluation_split: "):
        refuse_other_config(tiny_config(*text, "--task.evaluation_split", "validation"), searched)


def test_a_search_is_compared_with_its_own_settings(
    searched: RunFolder, tiny_config: Callable[..., RunConfig]
) -> None:
    """Not with those of a stage that came after it."""
    write_text(searched.search_config, to_yaml(tiny_config()))
    write_text(searched.config, to_yaml(tiny_config("--seed", "1")))
    refuse_other_config(tiny_config(), searched)
    with pytest.raises(UserError, match=r"^--seed: .* with 0, now it is 1"):
        refuse_other_config(tiny_config("--seed", "1"), searched)


def test_a_chosen_grid_belongs_to_its_settings_and_rates(
    begun: RunFolder, tiny_config: Callable[..., RunConfig]
) -> None:
    grid = ("--method", "lora_grid")
    write_text(begun.config, to_yaml(tiny_config(*grid)))
    write_text(begun.grid, "{}")
    write_text(begun.ranks, "{}")
    refuse_other_config(tiny_config(*grid), begun)
    for change in (("--lora.grid", "[1,2]"), ("--retrain.learning_rate", "1")):
        with pytest.raises(UserError, match=rf"^{change[0]}: "):
            refuse_other_config(tiny_config(*grid, *change), begun)


def test_ranks_written_by_hand_belong_to_no_search(begun: RunFolder, tiny_config: Callable[..., RunConfig]) -> None:
    write_text(begun.ranks, "{}")
    refuse_other_config(tiny_config("--seed", "1"), begun)


def test_how_a_study_is_launched_changes_no_result(begun: RunFolder, tiny_config: Callable[..., RunConfig]) -> None:
    half_search(begun)
    for check in (refuse_other_config, refuse_other_results):
        check(tiny_config("--study.launcher", "ray", "--study.ray.cpus", "2"), begun)


IN_THE_GATES = [
    ("--search.constraint", "sigmoid"),
    ("--search.scale", "paper"),
    ("--lora.lora_alpha", "1"),
    ("--lora.k", "8"),
    ("--model.name", "another"),
]


@pytest.mark.parametrize("change", IN_THE_GATES, ids=lambda value: str(value[0]))
@pytest.mark.parametrize("begun_before", [False, True])
def test_searched_weights_are_scaled_as_they_were_searched(
    searched: RunFolder, tiny_config: Callable[..., RunConfig], change: tuple[str, str], begun_before: bool
) -> None:
    """Another constraint or scale would put them into the model at another size, and say nothing."""
    write_text(searched.search_config, to_yaml(tiny_config()))
    init = ("--retrain.init", "search")
    write_text(searched.config, to_yaml(tiny_config(*init, *change)))
    if begun_before:  # by a version that did not look
        searched.retrain.mkdir()
    else:
        refuse_other_config(tiny_config(*change), searched, "retrain")
    with pytest.raises(
        UserError, match=rf"^{change[0]}: .* weights that were searched with .*--retrain\.init scratch"
    ):
        refuse_other_config(tiny_config(*init, *change), searched, "retrain")
    with pytest.raises(UserError, match=rf"^{change[0]}: "):
        refuse_other_config(tiny_config(*init, *change), searched, "all")


@pytest.mark.parametrize("change", [("--search.steps", "9"), ("--seed", "1"), ("--retrain.epochs", "9")])
def test_searched_weights_may_be_retrained_otherwise(
    searched: RunFolder, tiny_config: Callable[..., RunConfig], change: tuple[str, str]
) -> None:
    refuse_other_config(tiny_config("--retrain.init", "search", *change), searched, "retrain")


def test_a_half_done_retraining_of_another_searchs_ranks_is_not_stage_alls(
    searched: RunFolder, tiny_config: Callable[..., RunConfig]
) -> None:
    write_text(searched.search_config, to_yaml(tiny_config()))
    write_text(searched.config, to_yaml(tiny_config("--seed", "1")))
    searched.retrain.mkdir()
    refuse_other_config(tiny_config("--seed", "1"), searched, "retrain")
    with pytest.raises(UserError, match=r"^--seed: .* holds ranks that were chosen with 0, now it is 1"):
        refuse_other_config(tiny_config("--seed", "1"), searched, "all")


def test_a_report_goes_by_what_is_there(begun: RunFolder, tiny_config: Callable[..., RunConfig]) -> None:
    half_retrain(begun)
    refuse_other_config(tiny_config("--seed", "1"), begun, "report")
