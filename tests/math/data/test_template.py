"""The labels of a conversation are exact to the token, with real templates and with the odd cases
of our own."""

from datetime import datetime
from typing import Any

import pytest
from transformers.utils import chat_template_utils

from autolora.configs.errors import UserError
from autolora.problems.tasks.losses import IGNORED
from autolora.problems.tasks.template import PLAIN, Template
from tests.helpers.chat_toys import (
    DATED,
    FORGETFUL,
    OURS,
    PARTS,
    SILENT,
    SYSTEM,
    TURNS,
    chat_tokenizer,
    learned_texts,
    shipped,
)
from tests.helpers.generation_toys import make_tokenizer

REAL = {
    # trl's name -> the beginning of text, what ends an answer's turn, and whether there may be a
    # system turn
    "llama3": ("<|begin_of_text|>", "<|eot_id|>", True),
    "gemma": ("<bos>", "<end_of_turn>\n", False),
    "gemma3": ("<bos>", "<end_of_turn>\n", True),
    "qwen2_5": ("<bos>", "<|im_end|>\n", True),
}
BOTH = [1, 3]


def real(name: str, bos: str = "<bos>") -> Any:
    """A tokenizer with a template of trl's."""
    text = shipped(name)
    if text is None:
        pytest.skip(f"needs trl's template {name}: uv pip install trl")
    return chat_tokenizer(text, bos)


def by_offsets(tokenizer: Any, text: str, answers: list[str], end: str) -> list[int]:
    """The oracle: labels of the tokens whose characters lie in an answer with its end, found in the
    text by hand."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = []
    place = 0
    for answer in answers:
        place = text.index(answer + end, place)
        spans.append((place, place + len(answer + end)))
        place = spans[-1][1]
    return [
        token if any(a <= start and stop <= b for a, b in spans) and number else IGNORED
        for number, (token, (start, stop)) in enumerate(
            zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        )
    ]


@pytest.mark.parametrize("with_system", [False, True])
@pytest.mark.parametrize("name", REAL)
def test_real_templates_give_labels_to_the_answers_alone(name: str, with_system: bool) -> None:
    bos, end, takes_system = REAL[name]
    tokenizer = real(name, bos)
    turns = [*([SYSTEM] if with_system else []), *TURNS]
    learned = [number for number, turn in enumerate(turns) if turn["role"] == "assistant"]
    if with_system and not takes_system:
        with pytest.raises(Exception, match="System role not supported"):
            Template(tokenizer).labelled(turns, learned)
        return
    template = Template(tokenizer)
    ids, labels = template.labelled(turns, learned)
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    assert ids == tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert labels == by_offsets(tokenizer, whole, [TURNS[1]["content"], TURNS[3]["content"]], end)
    assert tokenizer.convert_ids_to_tokens(template.end) == end.strip()
    assert ids[: len(template.prompt(turns[:-1]))] == template.prompt(turns[:-1])


@pytest.mark.parametrize("name", OURS)
def test_templates_of_our_own(name: str) -> None:
    """One of them leaves the end of a turn outside its marks: the model would never learn to
    stop."""
    tokenizer = chat_tokenizer(OURS[name])
    turns = [
        dict(turn, content=f" {turn['content']} ") if name == "stripped spaces" else turn
        for turn in TURNS
    ]
    ids, labels = Template(tokenizer).labelled(turns, BOTH)
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    end = "<|im_end|>" if "marked" in name or name == "no prompt of its own" else "<|im_end|>\n"
    space = " " if name == "no prompt of its own" else ""
    answers = [space + TURNS[i]["content"] for i in BOTH]
    assert labels == by_offsets(tokenizer, whole, answers, end)
    assert learned_texts(tokenizer, ids, labels) == [answer + end for answer in answers]


def test_a_token_across_the_end_of_the_prompt_is_learned() -> None:
    """An answer that begins with a line break, where two of them are one token, and an answer of a
    cut character."""
    tokenizer = chat_tokenizer()
    tokenizer.add_tokens(["\n\n"])
    turns = [TURNS[0], {"role": "assistant", "content": "\nYes, café 🙂"}]
    ids, labels = Template(tokenizer).labelled(turns, [1])
    assert learned_texts(tokenizer, ids, labels) == ["\n\nYes, café 🙂<|im_end|>\n"]


@pytest.mark.parametrize("name", ["marked", "no system turn"])
def test_turns_that_are_not_learned_are_read(name: str) -> None:
    tokenizer = chat_tokenizer(OURS[name])
    for number in BOTH:
        (text,) = learned_texts(tokenizer, *Template(tokenizer).labelled(TURNS, [number]))
        assert text.startswith(TURNS[number]["content"])


def test_marks_that_cannot_be_told_apart_are_not_guessed() -> None:
    """One of three answers has no mark; and a template that breaks the rule, which TRL does not
    know."""
    turns = [*TURNS, TURNS[0], {"role": "assistant", "content": "silence"}]
    template = Template(chat_tokenizer(SILENT))
    with pytest.raises(
        ValueError, match="does not show to which of several answers its marks belong"
    ):
        template.labelled(turns, [3])
    assert len(learned_texts(template.tokenizer, *template.labelled(turns, [1, 3, 5]))) == 2
    thinking = [TURNS[0], {"role": "assistant", "content": "<think>x</think>y"}, *TURNS[2:]]
    with pytest.raises(
        ValueError, match=r"install TRL, .*\{% generation %\} in --task\.chat_template"
    ):
        Template(chat_tokenizer(FORGETFUL)).labelled(thinking, BOTH)


def test_where_a_template_breaks_the_rule_trl_s_training_template_has_the_marks() -> None:
    """Qwen3 takes the thoughts out of earlier answers; the tokenizer keeps its own template."""
    tokenizer = real("qwen3")
    own = tokenizer.chat_template
    template = Template(tokenizer)
    thinking = [TURNS[0], {**TURNS[1], "reasoning_content": "because"}, *TURNS[2:]]
    found = learned_texts(tokenizer, *template.labelled(thinking, BOTH))
    ends = [f"{TURNS[i]['content']}<|im_end|>\n" for i in BOTH]
    assert found == [
        f"<think>\nbecause\n</think>\n\n{ends[0]}",
        f"<think>\n\n</think>\n\n{ends[1]}",
    ]
    assert tokenizer.chat_template == own


def test_tools_reach_the_template() -> None:
    tools = [
        {"type": "function", "function": {"name": "area_of", "description": "", "parameters": {}}}
    ]
    call = {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"type": "function", "function": {"name": "area_of", "arguments": {"pub": "Aromi"}}}
        ],
    }
    turns = [TURNS[2], call, {"role": "tool", "content": "riverside"}, TURNS[3]]
    tokenizer = real("qwen2_5")
    ids, labels = Template(tokenizer).labelled(turns, BOTH, tools=tools)
    assert "area_of" in tokenizer.decode(ids[: labels.index(max(labels))])
    called, said = learned_texts(tokenizer, ids, labels)
    assert '{"name": "area_of", "arguments": {"pub": "Aromi"}}' in called
    assert said == f"{TURNS[3]['content']}<|im_end|>\n"


def test_the_plain_template_is_lora_s_recipe() -> None:
    """Source, separator, answer, end; only the last two are learned."""
    for begin in ("<|endoftext|>", "<s>"):
        tokenizer = make_tokenizer(begin)
        template = Template(tokenizer, PLAIN)
        turns = [TURNS[0], {"role": "assistant", "content": " Yes. "}]
        ids, labels = template.labelled(turns, [1])
        assert tokenizer.decode(ids) == f"{TURNS[0]['content']}{begin} Yes.<|endoftext|>"
        assert learned_texts(tokenizer, ids, labels) == [" Yes.<|endoftext|>"]
        assert ids[: labels.count(IGNORED)] == template.prompt(turns[:1])
        assert template.ends == [tokenizer.eos_token_id]


@pytest.mark.parametrize("template", [PARTS, None])
def test_what_cannot_be_used_is_refused(template: str | None) -> None:
    """With texts the first writes no words at all, and the model would learn empty answers."""
    with pytest.raises(UserError, match=r"^--task\.chat_template: "):
        Template(chat_tokenizer(template))


def test_the_day_s_date_is_one_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """The prompt with which the adapter is used is the one that was learned."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls(2030, 3, 1)

    monkeypatch.setattr(chat_template_utils, "datetime", Clock)
    assert "01 Mar 2030" in chat_tokenizer(DATED).apply_chat_template(TURNS, tokenize=False)
    assert Template(chat_tokenizer(DATED)).render(TURNS).startswith("Today: 26 Jul 2024\n")
