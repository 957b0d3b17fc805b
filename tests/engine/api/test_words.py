"""A message that a script sees names the script's arguments, not options of the command line."""

import logging

import pytest

from autolora.engine.api import UserError
from autolora.engine.api.words import named_as_in_scripts


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("--lora.k: 64 is not allowed", "lora_config.r: 64 is not allowed"),
        ("--lora.dropout: 2.0 is not allowed", "lora_config.lora_dropout: 2.0 is not allowed"),
        ("--lora.target_modules: qery matches no module", "lora_config.target_modules: qery matches no module"),
        ("give more rows or a larger --task.validation_share", "give more rows or a validation_dataset"),
        ("--task.validation_share: 0.5 of 1 rows; give another share",
         "train_dataset: 0.5 of 1 rows; give a validation_dataset"),
        ("--model.gradient_checkpointing: true is not allowed with",
         "the model's gradient checkpointing: true is not allowed with"),
        ("--device: 'xpu' is not allowed", "the model's device: 'xpu' is not allowed"),
        ('it stays frozen; --lora.modules_to_save null, or "[pooler]", trains it',
         'it stays frozen; lora_config.modules_to_save ["pooler"] trains it'),
        ("--search.steps: 0 is not allowed", "--search.steps: 0 is not allowed"),
    ],
)  # fmt: skip
def test_options_become_arguments(told: str, shown: str) -> None:
    """Those of search, hypergradient and answer stay, as the page of the functions says."""
    with pytest.raises(UserError) as caught, named_as_in_scripts():
        raise UserError(told)
    assert str(caught.value) == shown


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(ValueError, match=r"^--lora\.k$"), named_as_in_scripts():
        raise ValueError("--lora.k")


def test_a_line_about_the_model_names_arguments_inside_the_block_alone(log_lines: list[str]) -> None:
    line = 'the %s stays frozen; --lora.modules_to_save null, or "[pooler]", trains it'
    with named_as_in_scripts():
        logging.getLogger("autolora.inputs").warning(line, "pooler")
    logging.getLogger("autolora.inputs").warning(line, "pooler")
    assert log_lines == [
        'WARNING the pooler stays frozen; lora_config.modules_to_save ["pooler"] trains it',
        'WARNING the pooler stays frozen; --lora.modules_to_save null, or "[pooler]", trains it',
    ]
