"""A search resumes under the settings that it began with; its ranks are not retrained for another search."""

from collections.abc import Callable

import pytest

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig, Stage
from autolora.engine.disk import checkpoint
from autolora.engine.disk.files import write_text
from autolora.engine.run.folder import RunFolder
from tests.helpers.resuming import ask, half_search, searched

REFUSED = [
    (("--search.steps", "9"), r"^--search\.steps: .* half-done run with 6, now it is 9"),
    (("--seed", "1"), r"^--seed: "),
    (("--lora.k", "8"), r"^--lora\.k: "),
    (("--hypergradient.type", "sama"), r"^--hypergradient\.type: .*'darts', now it is 'sama'"),
    (("--task.evaluation_split", "test"), r"^--task\.evaluation_split: "),
    (("--search.patience", "3"), r"^--search\.patience: "),
    (("--answer.rule", "size", "--answer.budget", "1"), r"^--answer\.rule: .* with 'threshold', now it is 'size'"),
    (("--device", "auto"), r"^--device: "),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_a_changed_setting_is_refused_by_name(
    tiny_config: Callable[..., RunConfig], change: tuple[str, str], message: str
) -> None:
    ask(tiny_config(*change))
    half_search(tiny_config())
    ask(tiny_config())
    with pytest.raises(UserError, match=message):
        ask(tiny_config(*change))
    ask(tiny_config(*change), overwrite=True)


ALLOWED = [
    ("--search.checkpoint_every", "77"),
    ("--retrain.learning_rate", "1"),
    ("--tracking.wandb", "offline"),
    ("--export.merged", "true"),
    ("--lora.r", "2"),
    ("--lora.grid", "[1,2]"),
    ("--adapter.bottleneck", "9"),
    ("--task.metrics", "[f1_macro]"),
    ("--decode.num_beams", "1"),
    ("--study.launcher", "ray"),
    ("--study.ray.cpus", "2"),
    ("--search.max_bad_steps", "9"),
]


@pytest.mark.parametrize("change", ALLOWED)
def test_what_does_not_touch_the_search_may_change(
    tiny_config: Callable[..., RunConfig], change: tuple[str, str]
) -> None:
    half_search(tiny_config())
    ask(tiny_config(*change))


def test_more_unused_rows_may_judge_another_training_of_a_search(tiny_config: Callable[..., RunConfig]) -> None:
    judged = ("--task.train_rows", "16", "--retrain.row_losses", "true", "--task.unused_rows")
    half_search(tiny_config(*judged, "4"))
    ask(tiny_config(*judged, "9"))


def test_a_kill_between_the_two_renames_of_a_checkpoint_is_half_done_too(
    tiny_config: Callable[..., RunConfig],
) -> None:
    folder = RunFolder.of(tiny_config())
    half_search(tiny_config())
    half_search(tiny_config())
    checkpoint.remove(folder.search_checkpoint)
    assert checkpoint.load(folder.search_checkpoint) is not None
    with pytest.raises(UserError, match=r"^--seed: "):
        ask(tiny_config("--seed", "1"))


@pytest.mark.parametrize(
    ("stage", "change", "refused"),
    [
        ("all", ("--search.steps", "9"), True),
        ("all", ("--seed", "1"), True),
        ("all", ("--lora.lora_alpha", "1"), True),
        ("all", ("--task.train_rows", "32"), True),
        ("search", ("--search.steps", "9"), True),
        ("search", ("--retrain.epochs", "9"), False),
        ("all", ("--device", "auto"), False),
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
    tiny_config: Callable[..., RunConfig], stage: Stage, change: tuple[str, str], refused: bool
) -> None:
    searched(tiny_config())
    ask(tiny_config(), stage)
    if refused:
        with pytest.raises(UserError, match=rf"^{change[0]}: .* holds a search that was made with .*--stage retrain"):
            ask(tiny_config(*change), stage)
    else:
        ask(tiny_config(*change), stage)


def test_ranks_written_by_hand_belong_to_no_search(tiny_config: Callable[..., RunConfig]) -> None:
    write_text(RunFolder.of(tiny_config()).ranks, "{}")
    ask(tiny_config("--seed", "1"))


def test_a_broken_record_of_a_search_is_one_line(tiny_config: Callable[..., RunConfig]) -> None:
    searched(tiny_config())
    path = RunFolder.of(tiny_config()).search_summary
    path.write_text("{")
    with pytest.raises(UserError, match=rf"^{path}: not readable as JSON") as caught:
        ask(tiny_config())
    assert "\n" not in str(caught.value)
