"""Settings that do nothing are refused or said; every key is either always read or stands in the table of when not."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from configs.errors import UserError
from configs.files import CONFIGS, shipped_configs, to_yaml
from configs.keys import known_keys
from configs.parser import parse
from configs.recipe import evaluation_split
from configs.requests import Given
from configs.schema import RunConfig, TaskConfig
from configs.tell_unread import tell_unread, tell_unread_by_report
from configs.unread import BUDGETED, DIFFERENCES, TABLE, reason
from configs.values import with_values
from engine.retrain.methods import METHODS
from engine.retrain.owners import READ_RANKS
from engine.retrain.settings import FINISHED, RETRAINING
from engine.search.settings import UNFINISHED
from engine.study.comparison import COMPARED
from engine.study.values import word
from problems.hypergradients import HYPERGRADIENTS
from problems.tasks.readers.splits import evaluation_source
from tests.helpers.bilevel_toys import implicit, lora_toy, random_vector
from tests.helpers.unread import CHAT, PAIRS, runs_of, told

# Every run reads these, whatever the others are.
ALWAYS = {
    "name", "runs_folder", "method", "seed", "precision", "device", "strategy",
    "model.name", "model.trust_remote_code", "model.attention", "model.load_in_4bit", "model.dtype",
    "ignore_memory_estimate", "task.seed", "retrain.row_losses",
    "task.type", "task.metrics", "task.evaluation_split", "task.max_length", "task.train_rows",
    "task.evaluation_rows", "retrain.torch_compile", "retrain.eval_batch_size", "export.padded", "export.gguf",
    "tracking.wandb",
    "study.axes", "study.variants",
}  # fmt: skip
# Keys that change no result of a stage, so that no stage declares them: where a run lies, who is told of it, files
# beside the result, how its cells are started, and what several processes share.
ELSEWHERE = (
    "name", "runs_folder", "strategy", "ignore_memory_estimate", "export", "tracking", "verdict", "study.axes",
    "study.variants", "study.where", "study.exclude", "study.sweep_once", "study.launcher", "study.ray",
)  # fmt: skip


def with_few_cells(config: RunConfig) -> RunConfig:
    """A study of two seeds and one task, whose cells read what all of them read."""
    few = {"seed": 2, "task.name": 1, "lora.draw": 2}
    axes = {key: values[: few.get(key, len(values))] for key, values in config.study.axes.items()}
    places = {word(value) for value in axes.get("task.name", ())}
    where = {axis: {p: m for p, m in more.items() if p in places} for axis, more in config.study.where.items()}
    return dataclasses.replace(config, study=dataclasses.replace(config.study, axes=axes, where=where, exclude=[]))


def test_every_key_is_always_read_or_stands_in_the_table() -> None:
    covered = {key for key in known_keys() if any(row.covers(key) for row in TABLE)}
    assert covered | ALWAYS == set(known_keys())
    assert not covered & ALWAYS
    assert all(name in known_keys() or any(key.startswith(f"{name}.") for key in known_keys())
               for row in TABLE for name in row.keys)  # fmt: skip


def test_what_no_stage_declares_is_known_to_be_read_elsewhere() -> None:
    declared = {name for stage in (UNFINISHED, RETRAINING, FINISHED, COMPARED) for name in stage.read}
    for key in known_keys():
        inside = any(key == name or key.startswith(f"{name}.") for name in declared)
        assert inside != any(key == name or key.startswith(f"{name}.") for name in ELSEWHERE), key


@pytest.mark.parametrize("kind", sorted(HYPERGRADIENTS))
@pytest.mark.usefixtures("float64")
def test_an_approximation_reads_what_the_table_says(kind: str) -> None:
    """By its own numbers: another value of a key changes the term, or does not."""
    config = with_values(RunConfig(name="a"), {"hypergradient.type": kind})
    values = {"eta": 0.5, "darts_alpha": 0.01, "neumann_iterations": 1, "cg_iterations": 1}
    changes = {"hypergradient.eta": {"eta": 0.25}, "hypergradient.radius": {"darts_alpha": 0.5},
               "hypergradient.terms": {"neumann_iterations": 3, "cg_iterations": 3}}  # fmt: skip

    def term(**others: float) -> torch.Tensor:
        toy = lora_toy(kind, **values | others)
        torch.manual_seed(3)
        return implicit(toy, random_vector(toy))

    for key, change in changes.items():
        assert torch.equal(term(), term(**change)) == (reason(key, config) is not None), key
    is_difference = reason("hypergradient.fp32_difference", config) is None
    assert is_difference == (kind in DIFFERENCES) == (reason("hypergradient.radius", config) is None)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_reads_what_the_table_says(method: str) -> None:
    config = dataclasses.replace(RunConfig(name="a"), method=method)
    assert (reason("lora.ranks_from", config) is None) == (method in READ_RANKS)
    assert (reason("lora.budget", config) is None) == (method in BUDGETED)
    assert (reason("lora.trials", config) is None) == (method == "optuna")
    assert (reason("lora.module_sets", config) is None) == (method == "lora_modules")
    assert (reason("lora.rho", config) is None) == (method == "eva")
    assert (reason("lora.grid", config) is None) == (method == "lora_grid")
    assert (reason("adapter.bottleneck", config) is None) == (method == "adapter")
    searched = {key for key in known_keys() if key.startswith(("search.", "hypergradient.", "answer."))}
    unread = {key for key in searched if reason(key, config)}
    assert (unread == searched) == (method != "autolora")


REFUSED = {
    "a column of chat": (
        (*CHAT, "--task.label_column", "answer"),
        "--task.label_column: does nothing with --task.type chat, whose columns have fixed names; rename the columns",
    ),
    "a template for a plain prompt": (
        (*PAIRS, "--task.prompt", "plain", "--task.chat_template", "x.jinja"),
        "--task.chat_template: does nothing with --task.type generation and --task.prompt plain, as the prompt then",
    ),
    "a budget without its rule": (
        ("--answer.rule", "threshold", "--answer.budget", "4"),
        "--answer.budget: does nothing with --answer.rule threshold, which has no budget; give --answer.rule",
    ),
    "epochs beside steps": (
        ("--retrain.epochs", "3"),
        "--retrain.epochs: does nothing beside retrain.max_steps 320, which overrules it; leave it out, or give --re",
    ),
    "a rate beside rates": (
        ("--retrain.learning_rate", "1e-3", "--retrain.learning_rates", "[1e-3,1e-2]"),
        "--retrain.learning_rate: does nothing beside retrain.learning_rates [0.001, 0.01], of which one is chosen; ",
    ),
    "a rate beside rates, as an axis": (
        ("--study.axes", "{retrain.learning_rate: [1e-3, 1e-2]}", "--retrain.learning_rates", "[1e-3]"),
        "--retrain.learning_rate: does nothing beside retrain.learning_rates [0.001], of which one is chosen; leave",
    ),
    "an axis of what only another method reads": (
        ("--study.axes", "{lora.r: [2, 4]}"),
        "--lora.r: does nothing with --method autolora: it is read only for lora, adalora, eva, para, optuna, lora_m",
    ),
    "a task that the sample is not": (
        ("--task.name", "nosuch"), "--task.name: does nothing with --task.type sample, whose sentences the program",
    ),
    "a file that the sample does not read": (("--task.path", "x.csv"), "--task.path: does nothing with --task.type s"),
    "a group of keys": (("--task", "{path: x.csv}"), "--task.path: does nothing with --task.type sample"),
    "rows that glue does not evaluate": (
        ("--task.type", "glue", "--task.name", "cola", "--task.test_path", "x.csv"),
        "--task.test_path: does nothing with --task.type glue and --task.name cola, whose splits and columns are fix",
    ),
    "a value that an axis replaces": (
        ("--seed", "3", "--study.axes", "{seed: [0, 1]}"),
        "--seed: does nothing beside study.axes, which has values of seed; change them there",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "read"),
    [([], True), (["validation_path"], False), (["test_path"], False), (["test_path", "validation"], True)],
)
def test_rows_are_held_out_unless_a_file_of_the_evaluated_split_is_given(arguments: list[str], read: bool) -> None:
    paths = {name: "a.csv" for name in arguments if name.endswith("_path")}
    split = "validation" if "validation" in arguments else None
    config = RunConfig(task=TaskConfig(type="text", path="t.csv", evaluation_split=split, **paths))
    assert (reason("task.holdout_share", config) is None) == read
    assert evaluation_source(config.task, evaluation_split(config.task)).held_out == read


@pytest.mark.parametrize("case", REFUSED)
def test_a_key_that_is_overruled_or_names_data_that_is_not_read_is_refused(case: str, log_lines: list[str]) -> None:
    arguments, message = REFUSED[case]
    with pytest.raises(UserError) as caught:
        told(parse(arguments))
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert log_lines == []


def test_what_stands_in_a_file_is_said_with_its_name_and_not_refused(tmp_path: Path, log_lines: list[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("retrain:\n  epochs: 5\nlora:\n  r: 4\n")  # r: as the default is
    told(parse(["--config", str(path), "--retrain.max_steps", "9"]))
    (line,) = log_lines
    assert line.startswith(f"WARNING {path}: --retrain.epochs: does nothing beside retrain.max_steps 9, which overrul")


def test_a_key_on_the_command_line_and_in_a_file_is_said_once(tmp_path: Path, log_lines: list[str]) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("lora:\n  rho: 3.0\n")
    told(parse(["--config", str(path), "--lora.rho", "4.0"]))
    (line,) = log_lines
    assert line.startswith("WARNING --lora.rho: does nothing with --method ")


def test_an_axis_in_a_file_that_nothing_reads_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("study:\n  axes: {decode.num_beams: [1, 2]}\n")
    with pytest.raises(UserError, match=r"mine\.yaml: --decode\.num_beams: does nothing with --task\.type sample"):
        told(parse(["--config", str(path)]))


def test_what_a_shipped_configuration_holds_was_not_given(log_lines: list[str]) -> None:
    request = parse(["--config", "glue_sst2.yaml", "--retrain.max_steps", "100"])
    assert request.given == Given(frozenset({"retrain.max_steps"}))
    told(request)
    assert log_lines == []


@pytest.mark.parametrize("name", shipped_configs())
def test_no_shipped_configuration_holds_what_nothing_reads(tmp_path: Path, name: str, log_lines: list[str]) -> None:
    """Also as a user's own file, and as the config.yaml of its run, in which every key is filled in."""
    shipped, copy, filled = parse(["--config", name]), tmp_path / name, tmp_path / "config.yaml"
    copy.write_text((CONFIGS / name).read_text(encoding="utf-8"), encoding="utf-8")
    filled.write_text(to_yaml(shipped.config), encoding="utf-8")
    runs = runs_of(with_few_cells(shipped.config))
    tell_unread(shipped.given, shipped.config, runs)
    for source in (copy, filled):
        request = parse(["--config", str(source)])
        tell_unread(request.given, request.config, runs)
    assert log_lines == []


def test_a_run_s_own_configuration_says_nothing_of_defaults(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, log_lines: list[str]
) -> None:
    path = tmp_path / "config.yaml"
    for arguments in (
        (),
        ("--hypergradient.type", "first_order"),
        ("--answer.rule", "size", "--answer.budget", "2", "--search.check_every", "20"),
    ):
        path.write_text(to_yaml(tiny_config(*arguments)), encoding="utf-8")
        told(parse(["--config", str(path)]))
    assert log_lines == []


def test_what_a_report_does_not_take_of_the_command_line_is_said(log_lines: list[str]) -> None:
    request = parse(["--stage", "report", "--search.steps", "9", "--lora.k", "8", "--seed", "1"])
    ran = with_values(parse([]).config, {"lora.k": 8})
    tell_unread_by_report(request.given, request.config, ran, Path("runs/a/config.yaml"))
    assert log_lines == [
        "WARNING --stage report does not read --search.steps, --seed: it takes these settings from runs/a/config.yaml"
    ]


@pytest.mark.parametrize(
    ("stage", "given", "said"),
    [
        ("retrain", ("--search.steps", "9", "--answer.budget", "1"), "--answer.budget, --search.steps: do nothing"),
        ("retrain", ("--lora.target_modules", "[value]"), "--lora.target_modules: does nothing"),
        ("verdict", ("--retrain.init", "search"), "--retrain.init: does nothing"),
        ("search", ("--retrain.batch_size", "4", "--export.merged", "true"), None),  # kept for the retraining
        ("all", ("--search.steps", "9", "--retrain.batch_size", "4"), None),
    ],
)
def test_what_the_chosen_stage_does_not_read_is_said(
    log_lines: list[str], stage: str, given: tuple[str, ...], said: str | None
) -> None:
    request = parse(["--stage", stage, *given])
    tell_unread(request.given, request.config, [request.config], request.stage)
    assert [line.split(" with --stage")[0] for line in log_lines] == ([f"WARNING {said}"] if said else [])


def test_a_file_may_serve_another_stage(tmp_path: Path, log_lines: list[str]) -> None:
    (tmp_path / "a.yaml").write_text("search: {steps: 9}\n", encoding="utf-8")
    request = parse(["--config", str(tmp_path / "a.yaml"), "--stage", "retrain"])
    tell_unread(request.given, request.config, [request.config], request.stage)
    assert log_lines == []
