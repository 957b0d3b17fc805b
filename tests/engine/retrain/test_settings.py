"""A retraining, a sweep and a grid resume under the settings that they began with; a result belongs to its own."""

from collections.abc import Callable

import pytest

from autolora.configs.errors import UserError
from autolora.configs.keys import known_keys
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_json, write_text
from autolora.engine.retrain.settings import CHOOSING, FINISHED
from autolora.engine.run.folder import RunFolder
from tests.helpers.finished import RESULT
from tests.helpers.resuming import ask, half_grid, half_retrain, half_sweep, searched, swept

HalfDone = Callable[[RunConfig], None]


REFUSED = [
    (half_retrain, ("--retrain.learning_rate", "1")),
    (half_retrain, ("--lora.lora_alpha", "1")),
    (half_retrain, ("--retrain.batch_size", "4")),
    (half_sweep, ("--task.metrics", "[f1_macro]")),
    (half_sweep, ("--retrain.learning_rates", "[1e-3]")),
    (half_grid, ("--retrain.max_steps", "9")),
    (swept, ("--retrain.max_steps", "9")),
]


@pytest.mark.parametrize(("half", "change"), REFUSED)
def test_a_changed_setting_is_refused_by_name(
    tiny_config: Callable[..., RunConfig], half: HalfDone, change: tuple[str, str]
) -> None:
    ask(tiny_config(*change))
    half(tiny_config())
    ask(tiny_config())
    with pytest.raises(UserError, match=rf"^{change[0]}: .* half-done run with "):
        ask(tiny_config(*change))
    ask(tiny_config(*change), overwrite=True)


ALLOWED = [
    (half_retrain, ("--retrain.checkpoint_every", "7")),
    (half_retrain, ("--retrain.eval_batch_size", "7")),
    (half_retrain, ("--export.padded", "true")),
    (half_retrain, ("--decode.num_beams", "1")),
    (half_retrain, ("--task.metrics", "[f1_macro]")),
    (half_retrain, ("--lora.r", "2")),  # method autolora does not read it
    (half_retrain, ("--retrain.epochs", "9")),  # nor this beside retrain.max_steps
    (half_retrain, ("--task.evaluation_rows", "9")),
    (half_sweep, ("--task.evaluation_rows", "9")),
    (half_sweep, ("--retrain.eval_batch_size", "7")),
    (swept, ("--task.metrics", "[f1_macro]")),
    (swept, ("--decode.num_beams", "1")),
]


@pytest.mark.parametrize(("half", "change"), ALLOWED)
def test_what_does_not_touch_the_half_done_work_may_change(
    tiny_config: Callable[..., RunConfig], half: HalfDone, change: tuple[str, str]
) -> None:
    half(tiny_config())
    ask(tiny_config(*change))


def test_a_chosen_grid_belongs_to_its_settings_and_rates(tiny_config: Callable[..., RunConfig]) -> None:
    grid = ("--method", "lora_grid")
    half_grid(tiny_config(*grid))
    with pytest.raises(UserError, match=r"^--lora\.grid: .* half-done run with "):
        ask(tiny_config(*grid, "--lora.grid", "[1,2]"))
    write_text(RunFolder.of(tiny_config()).ranks, "{}")
    ask(tiny_config(*grid))
    for change in (("--lora.grid", "[1,2]"), ("--retrain.learning_rate", "1")):
        with pytest.raises(UserError, match=rf"^{change[0]}: .* ranks that were chosen with "):
            ask(tiny_config(*grid, *change))
        ask(tiny_config(*grid, *change), "retrain")
    half_retrain(tiny_config(*grid))
    ask(tiny_config(*grid, "--lora.grid", "[1,2]"), "retrain")


@pytest.mark.parametrize("half", [half_retrain, half_sweep, swept])
@pytest.mark.parametrize(
    "change", [("--answer.rule", "threshold"), ("--search.steps", "9"), ("--hypergradient.type", "none")]
)
def test_stage_retrain_takes_the_ranks_however_they_were_found(
    tiny_config: Callable[..., RunConfig], half: HalfDone, change: tuple[str, str]
) -> None:
    """The refusal of --stage all had advised it, and it was refused in turn."""
    shares = ("--answer.rule", "shares", "--answer.rows", "8")
    half(tiny_config(*shares))
    config = tiny_config(*shares, *change)
    write_text(RunFolder.of(config).ranks, "{}")
    with pytest.raises(UserError, match=rf"^{change[0]}: "):
        ask(config)
    ask(config, "retrain")
    with pytest.raises(UserError, match=r"^--seed: .* half-done run with "):
        ask(tiny_config(*shares, *change, "--seed", "1"), "retrain")


def test_a_retraining_from_the_searched_weights_is_of_its_search(tiny_config: Callable[..., RunConfig]) -> None:
    init = ("--retrain.init", "search", "--answer.rows", "8")
    half_retrain(tiny_config(*init))
    ask(tiny_config(*init, "--answer.rule", "shares"), "retrain")
    with pytest.raises(UserError, match=r"^--search\.steps: .* half-done run with "):
        ask(tiny_config(*init, "--search.steps", "9"), "retrain")


IN_THE_SCALE = [
    ("--lora.lora_alpha", "1"),
    ("--lora.k", "8"),
    ("--model.name", "another"),
]


@pytest.mark.parametrize("change", IN_THE_SCALE)
@pytest.mark.parametrize("overwrite", [False, True])
def test_searched_weights_are_scaled_as_they_were_searched(
    tiny_config: Callable[..., RunConfig], change: tuple[str, str], overwrite: bool
) -> None:
    """Another scale would put them into the model at another size, and say nothing; gates are folded into them."""
    searched(tiny_config())
    ask(tiny_config(*change), "retrain", overwrite=overwrite)
    init = ("--retrain.init", "search")
    with pytest.raises(
        UserError, match=rf"^{change[0]}: .* weights that were searched with .*--retrain\.init scratch"
    ):
        ask(tiny_config(*init, *change), "retrain", overwrite=overwrite)


@pytest.mark.parametrize(
    "change", [("--search.steps", "9"), ("--search.scale", "paper"), ("--seed", "1"), ("--retrain.epochs", "9")]
)
def test_searched_weights_may_be_retrained_otherwise(
    tiny_config: Callable[..., RunConfig], change: tuple[str, str]
) -> None:
    searched(tiny_config())
    ask(tiny_config("--retrain.init", "search", *change), "retrain")


def test_a_half_done_retraining_of_another_searchs_ranks_is_not_stage_alls(
    tiny_config: Callable[..., RunConfig],
) -> None:
    searched(tiny_config())
    half_retrain(tiny_config("--seed", "1"))
    ask(tiny_config("--seed", "1"), "retrain")
    with pytest.raises(UserError, match=r"^--seed: .* holds a search that was made with 0, now it is 1"):
        ask(tiny_config("--seed", "1"))


def test_a_report_goes_by_what_is_there(tiny_config: Callable[..., RunConfig]) -> None:
    half_retrain(tiny_config())
    ask(tiny_config("--seed", "1"), "report")


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        (("--task.metrics", "[f1_macro]"), True),
        (("--task.evaluation_rows", "9"), True),
        (("--retrain.max_steps", "9"), True),
        (("--retrain.epochs", "9"), False),  # not read beside max_steps
        (("--search.max_bad_steps", "9"), True),
        (("--decode.batch_size", "1"), False),
        (("--retrain.eval_batch_size", "9"), False),
        (("--search.checkpoint_every", "9"), False),
        (("--export.merged", "true"), False),
        (("--tracking.project", "mine"), False),
        (("--study.launcher", "ray"), False),
    ],
)
def test_a_result_is_of_all_that_it_was_trained_and_measured_with(
    tiny_config: Callable[..., RunConfig], change: tuple[str, str], refused: bool
) -> None:
    recorded = FINISHED.of(tiny_config())
    if refused:
        with pytest.raises(UserError, match=rf"^{change[0]}: it was finished with "):
            FINISHED.refuse_changed(recorded, tiny_config(*change), "it was finished with")
    else:
        FINISHED.refuse_changed(recorded, tiny_config(*change), "it was finished with")


def test_a_result_of_written_texts_is_of_its_decoding(tiny_config: Callable[..., RunConfig]) -> None:
    table = ("--task.type", "generation", "--task.path", "x.jsonl")
    recorded = FINISHED.of(tiny_config(*table, kind="gpt2"))
    with pytest.raises(UserError, match=r"^--decode\.num_beams: it was finished with "):
        FINISHED.refuse_changed(
            recorded, tiny_config(*table, "--decode.num_beams", "2", kind="gpt2"), "it was finished with"
        )


def test_every_key_is_declared_or_known_to_change_no_result(tiny_config: Callable[..., RunConfig]) -> None:
    """A new key that changes a result must be declared: else two settings would be mixed without a word."""
    free = {"name", "runs_folder", "search.checkpoint_every"}
    free |= {"model.gradient_checkpointing", "decode.batch_size"}
    free |= {f"retrain.{key}" for key in ("checkpoint_every", "eval_batch_size", "torch_compile")}
    undeclared = set(known_keys()) - set(FINISHED.of(tiny_config())) - free
    assert {key.split(".")[0] for key in undeclared} == {"export", "tracking", "study", "verdict"}
    assert set(CHOOSING.of(tiny_config())) < set(FINISHED.of(tiny_config()))


def test_a_run_that_lacks_only_its_report_is_not_shown_under_other_settings(
    tiny_config: Callable[..., RunConfig],
) -> None:
    """After a kill between the result and the report, other settings were accepted and the old result was printed."""
    config = tiny_config()
    folder = RunFolder.of(config)
    write_json(folder.metrics, RESULT | {"settings": FINISHED.of(config)})
    for change in (("--seed", "7"), ("--retrain.learning_rate", "0.5"), ("--search.steps", "99")):
        for stage in ("all", "retrain"):
            with pytest.raises(UserError, match=rf"^{change[0]}: .* lacks only its report, and was made with "):
                ask(tiny_config(*change), stage)
    ask(config)
    ask(tiny_config("--tracking.wandb", "offline"))
    write_text(folder.report, "")
    ask(tiny_config("--seed", "7"))  # refused elsewhere, as the run is finished
