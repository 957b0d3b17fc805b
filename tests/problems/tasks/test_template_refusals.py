"""A template that refuses a row is told in its own words; one that fails, with the name of the error."""

import pytest

from autolora.problems.tasks.template_files import take_template
from autolora.problems.tasks.template_refusals import RowRefused, refusal
from autolora.problems.tasks.templates import Template
from tests.helpers.chat_toys import CHATML, DATED, OURS, SYSTEM, TURNS, chat_tokenizer


def test_a_row_that_the_template_refuses_is_told_in_its_words() -> None:
    tokenizer = chat_tokenizer(OURS["no system turn"])
    with pytest.raises(RowRefused, match="No system turn here") as caught:
        Template(tokenizer).labelled([SYSTEM, *TURNS])
    error = str(refusal(caught.value, "--task.path: a.jsonl, row 7", "my.jinja", tokenizer))
    assert error.startswith("--task.path: a.jsonl, row 7: the chat template, my.jinja, refuses this row (No system")


FAILING = {
    "{{ 1 / 0 }}": "ZeroDivisionError: division by zero",
    "{{ messages[0]['content'].index('zzz') }}": "ValueError: substring not found",
    "{{ messages[0]['content'] + none }}": "TypeError: ",
    "{{ absent.name }}": "UndefinedError: 'absent' is undefined",
    "{% if messages %}{{ messages | nosuch }}{% endif %}": "TemplateRuntimeError: No filter named 'nosuch' found",
    "{{ [][0:1:0] }}": "ValueError: slice step cannot be zero",
}


@pytest.mark.parametrize("text", FAILING)
def test_a_template_that_fails_is_told_with_the_name_of_the_error(text: str) -> None:
    """A template is a program and may raise any error of Python's."""
    tokenizer = chat_tokenizer(text + CHATML)
    template = Template(tokenizer)
    with pytest.raises(RowRefused) as caught:
        template.labelled(TURNS)
    error = str(refusal(caught.value, "--task.path: a.jsonl, row 7", "my.jinja", tokenizer))
    assert error.startswith(
        f"--task.path: a.jsonl, row 7: the chat template, my.jinja, fails on this row ({FAILING[text]}"
    )
    assert error.endswith("; change the row, or give another template with --task.chat_template")
    assert "\n" not in error


def test_a_template_with_a_date_that_fails_on_one_turn_is_left_to_the_rows() -> None:
    take_template(chat_tokenizer("{{ 1 / 0 }}" + DATED), None)
