"""jsonargparse's complaints (as it words them itself) as one line."""

from pathlib import Path

import pytest

from autolora.configs.complaints import one_line
from autolora.configs.errors import UserError
from autolora.configs.parser import parse_command


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("error: Unrecognized arguments: --lora.kk=3", "unknown key 'lora.kk'; did you mean 'lora.k'?"),
        ("Group 'lora' does not accept option 'kk'", "unknown key 'lora.kk'; did you mean 'lora.k'?"),
        ("Option 'sed' is not accepted", "unknown key 'sed'; did you mean 'seed'?"),
        (
            'Parser key "lora.k":\n  Expected a <class int>.\n  Got value: 2.5',
            "--lora.k: '2.5' is not allowed; allowed: a whole number: 1 to 1024",
        ),
        (
            'Parser key "task.train_rows":\n    - Expected a <class int>. Got value: True\n  Given value: true',
            "--task.train_rows: 'true' is not allowed; allowed: a whole number: 1 to 1,000,000,000, or null",
        ),
        (
            'Parser key "name":\n  Does not validate:\n    - Expected a <class str>. Got value: 12\n'
            "  Given value: 12\n    - Expected a <class NoneType>\n  Given value: 12",
            "--name: '12' is not allowed; allowed: text, null",
        ),
        (
            'Parser key "task.text_columns":\n  Expected a <class str>. Got value: False\n'
            "  Given value: ['a', False]",
            "--task.text_columns: \"['a', False]\" is not allowed (YAML reads an unquoted no, yes, null or number as "
            'another type, here False; quote it: \'["no"]\'); allowed: a list of names, such as "[a,b]", null',
        ),
        (
            'Parser key "device":\n  Expected one of auto, cpu.\n  Got value: cuda:1',
            "--device: 'cuda:1' is not allowed; allowed: auto, cpu, cuda, mps; CUDA_VISIBLE_DEVICES=1 before the "
            "command chooses the GPU",
        ),
        (
            "unrecognized arguments: a b.yaml --x 1",
            "'a b.yaml' belongs to no option; did you mean --config 'a b.yaml'?",
        ),
        ("argument -h/--help: ignored explicit argument '3'", "--help: takes no value; allowed: --help alone"),
        ("While parsing:\n    line 3,\n  column 1\n", "While parsing: line 3, column 1"),
    ],
)
def test_a_complaint_is_one_line(message: str, line: str) -> None:
    assert one_line(message) == line


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("--lora.target_modules q_proj v_proj --seed 3", '--lora.target_modules "[q_proj,v_proj]"'),
        ("--seed 3 --lora.target_modules q_proj, v_proj", '--lora.target_modules "[q_proj,v_proj]"'),
        ("--lora.target_modules=q_proj", '--lora.target_modules "[q_proj]"'),
        ("--lora.target_modules all_linear", "--lora.target_modules all-linear"),
        ("--lora.grid 1,2", '--lora.grid "[1,2]"'),
        ("--retrain.learning_rates 1e-3", '--retrain.learning_rates "[1e-3]"'),
        ("--verdict.arms uniform", '--verdict.arms "[uniform]"'),
        ("--score ner --metrics f1", '--metrics "[f1]"'),
    ],
)
def test_a_list_without_brackets_is_answered_by_the_list(words: str, meant: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_command(words.split())
    assert str(caught.value).endswith(f"; did you mean {meant}?")


@pytest.mark.parametrize(
    "words",
    [
        "--lora.grid 1,a",  # not of the list's type
        "--lora.modules_to_save a,no",  # YAML reads no as false
        "--task.text_columns a,b,c",  # more than the key takes
        "--study.axes.seed 1,2",
        "--lora.k 1,2",
    ],
)
def test_what_would_be_no_value_of_the_key_is_not_proposed(words: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_command(words.split())
    assert "did you mean" not in str(caught.value)


def test_a_list_without_brackets_in_a_file_is_answered_by_the_list(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("task: {text_columns: review}\n")
    with pytest.raises(
        UserError, match=r'c\.yaml: --task\.text_columns: .* mean --task\.text_columns "\[review\]"\?$'
    ):
        parse_command(["--config", str(tmp_path / "c.yaml")])


@pytest.mark.parametrize("words", ["--search.steps 1e3", "--search.steps=1e3", "--search.steps 4 --search.steps 1e3"])
def test_a_number_is_shown_as_the_user_wrote_it(words: str) -> None:
    with pytest.raises(UserError, match=r"^--search\.steps: '1e3' is not allowed; allowed: a whole number"):
        parse_command(words.split())
