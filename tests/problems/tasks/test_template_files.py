"""Where the chat template of a run comes from; it prints a fixed date in place of the day's."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils

from autolora.configs.errors import UserError
from autolora.problems.tasks.template_files import take_template
from autolora.problems.tasks.templates import Template, template_of
from tests.helpers.chat_toys import CHATML, DATED, OURS, TURNS, chat_tokenizer, on_the_day, shipped


def test_a_template_from_a_file_is_checked_and_kept_with_the_tokenizer(tmp_path: Path) -> None:
    tokenizer, file = chat_tokenizer(None), tmp_path / "t.jinja"
    assert template_of(tokenizer) is None
    take_template(tokenizer, None)
    assert template_of(tokenizer) is None
    file.write_text(OURS["marked"])
    take_template(tokenizer, str(file))
    tokenizer.save_pretrained(tmp_path / "saved")
    assert template_of(AutoTokenizer.from_pretrained(tmp_path / "saved")) == OURS["marked"]
    for content, words in (
        (b"{% for x %}", r"t\.jinja, line 1"),
        (b"{{ bos_token }}\n{{ messages | nosuch }}", r"t\.jinja, line 2: No filter named 'nosuch'"),
        (b"\xff", "not UTF-8"),
        (b" ", "is empty"),
    ):
        file.write_bytes(content)
        with pytest.raises(UserError, match=rf"^--task\.chat_template: .*{words}"):
            take_template(tokenizer, str(file))
    with pytest.raises(UserError, match=r"^--task\.chat_template: .*none\.jinja cannot be read \(No such file"):
        take_template(tokenizer, str(tmp_path / "none.jinja"))


@pytest.mark.parametrize("name", ["ours", "llama3_2", "gptoss"])
def test_the_tokens_of_a_template_with_a_date_are_the_same_on_every_day(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """A run could not be resumed on the next day, and the adapter's prompts would change from day to day."""
    text = DATED if name == "ours" else shipped(name)
    if text is None:
        pytest.skip(f"needs trl's template {name}: uv pip install trl")
    found = []
    for day in (1, 2):
        monkeypatch.setattr(chat_template_utils, "datetime", on_the_day(day))
        tokenizer = chat_tokenizer(text)
        assert f"0{day}" in tokenizer.apply_chat_template(TURNS[:1], tokenize=False)
        take_template(tokenizer, None)
        found.append(Template(tokenizer).labelled(TURNS[:2]))
    assert found[0] == found[1]
    assert "its date is always 26 Jul 2024, not the day's)" in Template(tokenizer).words
    tokenizer.save_pretrained(tmp_path)
    again: Any = AutoTokenizer.from_pretrained(tmp_path)
    take_template(again, None)
    assert template_of(again) == template_of(tokenizer), "the date is fixed once"
    assert Template(again).prompt(TURNS[:1]) == found[0][0][: len(Template(again).prompt(TURNS[:1]))]


def test_the_date_is_fixed_in_a_file_and_in_the_default_of_several_templates(tmp_path: Path) -> None:
    tokenizer, file = chat_tokenizer(), tmp_path / "t.jinja"
    file.write_text(DATED)
    take_template(tokenizer, str(file))
    assert "26 Jul 2024" in Template(tokenizer).render(TURNS)
    tokenizer.chat_template = {"default": DATED, "tool_use": DATED}
    take_template(tokenizer, None)
    several: Any = tokenizer.chat_template
    assert "26 Jul 2024" in Template(tokenizer).render(TURNS)
    assert several["tool_use"] == DATED


def test_a_template_without_a_date_stays_as_it_is() -> None:
    for text in (CHATML, "{# strftime_now #}" + CHATML):
        tokenizer = chat_tokenizer(text)
        take_template(tokenizer, None)
        assert template_of(tokenizer) == text


def test_a_part_of_the_date_that_cannot_be_fixed_is_refused(tmp_path: Path) -> None:
    """Its code would stand in every prompt."""
    file, seconds = tmp_path / "t.jinja", DATED.replace("%Y", "%s")
    file.write_text(seconds)
    for tokenizer, path, name in (
        (chat_tokenizer(), str(file), r".*t\.jinja"),
        (chat_tokenizer(seconds), None, "the model's own .*"),
    ):
        with pytest.raises(
            UserError, match=rf"^--task\.chat_template: {name} prints .* with %s, .*; allowed: %-d %d "
        ):
            take_template(tokenizer, path)
    file.write_text(DATED.replace("%Y", "%Y, 100%% %-I %p") + "%s")
    take_template(tokenizer, str(file))
    assert Template(tokenizer).render(TURNS).startswith("Today: 26 Jul 2024, 100% 12 PM")
