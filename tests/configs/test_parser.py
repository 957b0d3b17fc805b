"""The command line to a request; every mistake is one line with what would be right."""

from pathlib import Path

import pytest
import yaml

from autolora.configs.errors import UserError
from autolora.configs.files import CONFIGS, DEFAULT_CONFIG, load_config, shipped_configs, to_yaml
from autolora.configs.keys import known_keys
from autolora.configs.parser import parse, parse_command
from autolora.configs.requests import Command, ScoreRequest, ShowRequest, WorkspaceRequest


@pytest.mark.parametrize("name", shipped_configs())
def test_every_shipped_config_parses_and_opens_with_its_command(name: str) -> None:
    request = parse(["--config", name])
    assert request.config.name == Path(name).stem
    assert request.source == name
    first = (CONFIGS / name).read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("#")
    assert f"run.py --config {name}" in first
    given = yaml.safe_load((CONFIGS / name).read_text(encoding="utf-8"))
    assert load_config(CONFIGS / name) == request.config
    for section, values in given.items():
        for key, value in values.items() if isinstance(values, dict) else ():
            if f"{section}.{key}" in known_keys():
                found = getattr(getattr(request.config, section), key)
                assert found == ([value] if isinstance(found, list) and not isinstance(value, list) else value)


def test_without_a_config_it_is_the_quickstart() -> None:
    assert parse([]).config == parse(["--config", DEFAULT_CONFIG]).config
    assert parse(["--seed", "3"]).config.name == "quickstart"


def test_without_a_config_a_file_of_the_quickstart_s_name_here_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run took its settings from a forgotten copy in the working folder, and nothing said so."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / DEFAULT_CONFIG).write_text("seed: 3\n")
    request = parse([])
    assert request.config == load_config(CONFIGS / DEFAULT_CONFIG)
    assert (request.source, request.given.files) == (DEFAULT_CONFIG, {})
    named = parse(["--config", DEFAULT_CONFIG])
    assert (named.config.seed, named.source) == (3, DEFAULT_CONFIG)


def test_the_command_line_wins_over_the_file_before_and_after_it() -> None:
    assert (
        parse(["--config", "glue_sst2.yaml", "--lora.k", "5", "--stage", "search", "--overwrite"]).config.lora.k == 5
    )
    request = parse(["--config=glue_sst2.yaml", "--name", "mine", "--lora.target_modules", "[a,b]"])
    assert request.config.name == "mine"
    assert request.config.lora.target_modules == ["a", "b"]
    assert request.config.search.steps == 4210
    assert (request.stage, request.overwrite) == ("all", False)
    for file in (["--config", "glue_sst2.yaml"], ["--config=glue_sst2.yaml"]):
        before = parse(["--search.steps", "7", "--model.name", "org/mine", *file, "--stage", "search"])
        assert (before.config.search.steps, before.config.model.name) == (7, "org/mine")
        assert (before.config.task.name, before.stage, before.source) == ("sst2", "search", "glue_sst2.yaml")
    first = parse(["--lora.k", "5", "--stage", "search", "--overwrite", "--config", "glue_sst2.yaml"])
    assert (first.config.lora.k, first.stage, first.overwrite) == (5, "search", True)


WRONG = {
    "misspelt": (["--search.setps", "3"], "unknown key 'search.setps'; did you mean 'search.steps'?"),
    "without its section": (
        ["--constraint", "softmax"],
        "unknown key 'constraint'; did you mean 'search.constraint'?",
    ),
    "abbreviated": (["--lora.ranks", "6"], "unknown key 'lora.ranks'; did you mean 'lora.ranks_from' or "),
    "as another trainer calls it": (
        ["--lora.rank", "6"],
        "unknown key 'lora.rank'; did you mean 'lora.r' or 'lora.k'?",
    ),
    "a GPU of several": (
        ["--device", "cuda:1"],
        "--device: 'cuda:1' is not allowed; allowed: auto, cpu, cuda, mps; CUDA_VISIBLE_DEVICES=1 before the command",
    ),
    "an abbreviated switch": (["--conf", "glue_sst2.yaml"], "unknown key 'conf'; did you mean 'config'?"),
    "an abbreviated request": (["--sho", "runs/a"], "unknown key 'sho'; did you mean 'show'?"),
    "in another section": (["--model.k", "4"], "unknown key 'model.k'; did you mean 'lora.k'?"),
    "far from all": (["--zzzzqq", "1"], "unknown key 'zzzzqq'; --help lists the keys"),
    "text for a number": (
        ["--search.steps", "many"],
        "--search.steps: 'many' is not allowed; allowed: a whole number",
    ),
    "fraction": (["--lora.k", "2.5"], "--lora.k: '2.5' is not allowed; allowed: a whole number: 1 to 1024"),
    "list for a number": (["--lora.k", "[1]"], "--lora.k: '[1]' is not allowed; allowed: a whole number: 1 to 1024"),
    "value for a list": (
        ["--study.axes", "{seed: 1}"],
        "--study.axes: '1' is not allowed; allowed: keys with lists of values, such as \"{seed: [0,1]}\"",
    ),
    "word among numbers": (
        ["--study.probe.etas", "[lr,foo]"],
        "--study.probe.etas: 'foo' is not allowed; allowed: a list of numbers from 0 to 1,000,000, lr or betty",
    ),
    "name for names": (
        ["--task.metrics", "f1"],
        "--task.metrics: 'f1' is not allowed; allowed: a list of names, such as \"[a",
    ),
    "name for names, which are meant": (
        ["--task.text_columns", "review", "--seed", "3"],
        "--task.text_columns: 'review' is not allowed; allowed: a list of names, such as \"[a,b]\", null; "
        'did you mean --task.text_columns "[review]"?',
    ),
    "names without brackets": (
        ["--lora.target_modules", "q_proj,v_proj"],
        "--lora.target_modules: 'q_proj,v_proj' is not allowed; allowed: a list of names, such as \"[a,b]\", "
        'all-linear; did you mean --lora.target_modules "[q_proj,v_proj]"?',
    ),
    "value of a switch": (["--overwrite=3"], "--overwrite: '3' is not allowed; allowed: true or false"),
    "word after a switch": (["--overwrite", "runs/a"], "--overwrite: 'runs/a' is not allowed; allowed: true or false"),
    "word of no option": (["true"], "'true' belongs to no option; allowed: --KEY VALUE"),
    "file without its option": (
        ["quickstart.yaml"],
        "'quickstart.yaml' belongs to no option; did you mean --config quickstart.yaml?",
    ),
    "option without its file": (["--config"], "--config: needs a value; allowed: a file or folder"),
    "option without its folder": (["--show"], "--show: needs a value; allowed: a file or folder"),
    "option without its number": (
        ["--seed"],
        "--seed: needs a value; allowed: a whole number: 0 to 2147483647; one that begins with '-' is written",
    ),
    "a negative number that looks like an option": (
        ["--search.learning_rate", "-1e-3"],
        "--search.learning_rate: needs a value; allowed: a number above 0, at most 1,000,000; one that begins",
    ),
    "word for true or false": (
        ["--search.dropout", "maybe"],
        "--search.dropout: 'maybe' is not allowed; allowed: true or false",
    ),
    "both names of a key": (
        ["--answer.from", "a", "--answer.from_run=b"],
        "--answer.from and --answer.from_run are two names of one key; allowed: one of them",
    ),
    "choice": (
        ["--search.constraint", "softmx"],
        "--search.constraint: 'softmx' is not allowed; allowed: softmax, sigmoid, none",
    ),
    "stage": (["--stage", "train"], "--stage: 'train' is not allowed; allowed: all, search, retrain, report"),
    "eta": (["--hypergradient.eta", "big"], "--hypergradient.eta: 'big' is not allowed; allowed: a number from 0 to"),
    "null": (["--seed", "null"], "--seed: "),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_on_the_command_line_is_one_line_with_what_would_be_right(case: str) -> None:
    arguments, message = WRONG[case]
    with pytest.raises(UserError) as caught:
        parse(arguments)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("--overwrite", True),
        ("--overwrite --seed 3", True),
        ("--overwrite true", True),
        ("--overwrite=true", True),
        ("--overwrite false --seed 3", False),
        ("--overwrite=false", False),
        ("--seed 3", False),
    ],
)
def test_overwrite_stands_alone_or_takes_true_or_false(words: str, meant: bool) -> None:
    """--help said that it takes true or false, but both were refused."""
    assert parse(words.split()).overwrite is meant


def test_overwrite_false_overrules_a_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("overwrite: true\n")
    assert parse(["--config", str(tmp_path / "c.yaml")]).overwrite
    assert not parse(["--overwrite", "false", "--config", str(tmp_path / "c.yaml")]).overwrite


def test_print_config_shows_the_resolved_values(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--config", "glue_sst2.yaml", "--seed", "9", "--print_config"])
    assert ended.value.code == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["seed"] == 9
    assert shown["search"]["steps"] == 4210
    assert shown["search"]["patience"] == 10


def test_one_axis_is_given_by_its_dotted_key() -> None:
    study = parse(["--study.axes.lora.k", "[4,8]", "--study.axes.seed", "[0]"]).config.study
    assert study.axes == {"lora.k": [4, 8], "seed": [0]}


REQUESTS: dict[str, tuple[list[str], Command]] = {
    "show": (["--show", "runs/a"], ShowRequest("runs/a")),
    "show for a trainer": (["--show", "runs/a", "--for", "llama-factory"], ShowRequest("runs/a", "llama-factory")),
    "workspace": (["--workspace", "runs/a"], WorkspaceRequest("runs/a")),
    "score": (["--score", "e2e", "--hyp", "h", "--ref", "r"], ScoreRequest("e2e", "h", "r", None, None)),
    "score some": (
        ["--score", "ner", "--hyp", "h", "--ref", "r", "--json", "j", "--metrics", "[f1]"],
        ScoreRequest("ner", "h", "r", "j", ["f1"]),
    ),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_a_command_line_may_ask_for_something_else_than_a_run(case: str) -> None:
    arguments, request = REQUESTS[case]
    assert parse_command(arguments) == request


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--score", "e2e"], "--score e2e: needs --hyp FILE"),
        (["--score", "e2e", "--hyp", "h"], "--score e2e: needs --ref FILE"),
        (["--score", "f1"], "--score: 'f1' is not allowed; allowed: e2e, webnlg, ner"),
        (["--ref", "r"], "--ref: belongs to --score"),
        (
            ["--show", "runs/a", "--seed", "3"],
            "--seed: does nothing with --show, --workspace and --score, which",
        ),
        (["--show", "runs/a", "--overwrite"], "--overwrite: does nothing with --show, --workspace and --score, which"),
        (["--score", "ner", "--hyp", "h", "--ref", "r", "--stage", "all"], "--stage: does nothing with --show, --wo"),
        (["--workspace", "runs/a", "--show", "runs/b"], "--workspace: does nothing beside --show; give one of them"),
        (["--score", "ner", "--hyp", "h", "--ref", "r", "--show", "x"], "--show: does nothing beside --score; give"),
        (["--for", "trl"], "--for: belongs to --show"),
        (
            ["--show", "runs/a", "--for", "lightning"],
            "--for: 'lightning' is not allowed; allowed: peft, trl, axolotl, llama-factory, unsloth",
        ),
        (["--metrics", "[f1]"], "--metrics: belongs to --score; did you mean --task.metrics?"),
    ],
)
def test_half_a_request_to_score_is_one_line(arguments: list[str], line: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_command(arguments)
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize("switch", ["show", "workspace", "hyp", "ref", "json"])
@pytest.mark.parametrize("path", ["x" * 256, "a/" * 1600, ""])
def test_a_path_that_no_file_system_takes_is_one_line(switch: str, path: str) -> None:
    with pytest.raises(UserError, match=rf"^--{switch}: .* is not allowed; allowed: a path of at most 3,000 bytes"):
        parse_command([f"--{switch}", path])


def test_a_path_begins_at_the_home_of_the_user_also_after_an_equals_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell replaces the ~ of `--show ~/a`, but not of `--show=~/a`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "c.yaml").write_text("seed: 3\n")
    assert parse_command(["--show=~/a"]) == ShowRequest(f"{tmp_path}/a")
    assert parse(["--config=~/c.yaml"]).config.seed == 3


def test_each_trial_of_a_sweep_is_a_run_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second was refused, as the first had finished under that name."""
    monkeypatch.setenv("WANDB_RUN_ID", "ab12")
    assert parse(["--config", "glue_sst2.yaml"]).config.name == "glue_sst2", "only a sweep has trials"
    monkeypatch.setenv("WANDB_SWEEP_ID", "s")
    assert parse(["--config", "glue_sst2.yaml"]).config.name == "glue_sst2-ab12"
    assert parse(["--config", "glue_sst2.yaml", "--name", "mine"]).config.name == "mine"


def test_a_file_whose_name_is_none_for_a_run_needs_a_name(tmp_path: Path) -> None:
    path = tmp_path / "my run.yaml"
    path.write_text("seed: 3\n")
    with pytest.raises(
        UserError, match=r"^--name: needs a value, as the file's name, 'my run', is not allowed as a run"
    ):
        parse(["--config", str(path)])
    assert parse(["--config", str(path), "--name", "a"]).config.name == "a"


def test_a_file_that_a_run_wrote_keeps_the_order_of_its_axes(tmp_path: Path) -> None:
    """The names of a study's cells follow it; sorted, its finished cells were not found and all were trained again."""
    study = ["--study.axes", "{seed: [0], method: [lora]}", "--study.variants", "{b: {}, a: {}}", "--name", "1e-3"]
    asked = parse(study).config
    (tmp_path / "config.yaml").write_text(to_yaml(asked), encoding="utf-8")
    again = parse(["--config", str(tmp_path / "config.yaml")]).config
    assert again == asked
    assert (list(again.study.axes), list(again.study.variants)) == (["seed", "method"], ["b", "a"])
