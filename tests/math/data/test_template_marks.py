"""Of a template that marks its answers: which marks belong to which turn, where only some turns are learned."""

import pytest

from autolora.problems.tasks.template_refusals import TemplateRefused
from autolora.problems.tasks.templates import Template
from tests.helpers.chat_toys import OURS, SILENT, THINKING, THOUGHT, TURNS, chat_tokenizer, learned_texts


def test_marks_are_those_of_the_turn_that_they_stand_in() -> None:
    """Turns without marks, or with several, must not shift those of the others."""
    tokenizer = chat_tokenizer(SILENT)
    silent = {"role": "assistant", "content": "silence"}
    for before in ([silent], [TURNS[0], silent]):
        ids, labels = Template(tokenizer).labelled([*before, *TURNS], [len(before) + 1])
        (text,) = learned_texts(tokenizer, ids, labels)
        assert text == f"{TURNS[1]['content']}<|im_end|>"
    tokenizer = chat_tokenizer(THINKING)
    ids, labels = Template(tokenizer).labelled(TURNS, [3])
    assert learned_texts(tokenizer, ids, labels) == ["<think>", f"{TURNS[3]['content']}<|im_end|>"]


LAST_THOUGHTS = {
    "in the last turn": THINKING.replace(THOUGHT, "{% if loop.last %}" + THOUGHT + "{% endif %}"),
    "in the last answer": "{% set last = messages | selectattr('role', 'eq', 'assistant') | list | last %}"
    + THINKING.replace(THOUGHT, "{% if m == last %}" + THOUGHT + "{% endif %}"),
}


@pytest.mark.parametrize("name", LAST_THOUGHTS)
def test_marks_that_only_the_last_answer_has_are_its_own(name: str) -> None:
    """A turn has more marks while it is the last one: counted there, it took those of a turn behind it."""
    tokenizer = chat_tokenizer(LAST_THOUGHTS[name])
    first, last = (f"{TURNS[number]['content']}<|im_end|>" for number in (1, 3))
    for learned, texts in (([1], [first]), ([3], ["<think>", last]), ([1, 3], [first, "<think>", last])):
        assert learned_texts(tokenizer, *Template(tokenizer).labelled(TURNS, learned)) == texts


def test_the_place_of_marks_is_known_where_a_template_refuses_a_greeting_alone() -> None:
    asks = "{% if not messages | selectattr('role', 'eq', 'user') | list %}{{ raise_exception('No user') }}{% endif %}"
    greeting = {"role": "assistant", "content": "Hello!"}
    for text, learned in ((OURS["marked"], []), (THINKING, ["<think>"])):
        tokenizer = chat_tokenizer(asks + text)
        found = learned_texts(tokenizer, *Template(tokenizer).labelled([greeting, *TURNS[:2]]))
        assert found == [*learned, f"{TURNS[1]['content']}<|im_end|>"]


def test_of_answers_that_follow_each_other_one_can_be_learned_if_each_has_one_mark() -> None:
    turns = [*TURNS[:2], dict(TURNS[3]), *TURNS[2:]]
    for learned in ([1], [2], [1, 4]):
        tokenizer = chat_tokenizer(OURS["marked"])
        found = learned_texts(tokenizer, *Template(tokenizer).labelled(turns, learned))
        assert found == [f"{turns[number]['content']}<|im_end|>" for number in learned]
    with pytest.raises(TemplateRefused, match="does not show to which of several answers its marks belong"):
        Template(chat_tokenizer(THINKING)).labelled(turns, [1])
    found = learned_texts(tokenizer, *Template(chat_tokenizer(THINKING)).labelled(turns, [4]))
    assert found == ["<think>", f"{TURNS[3]['content']}<|im_end|>"]


def test_a_marked_template_that_leaves_a_user_s_words_out_cannot_tell_the_answers_apart() -> None:
    mute = "{% for m in messages %}{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] }}<|im_end|>"
    mute += "{% endgeneration %}{% elif loop.first %}{{ m['content'] }}{% endif %}{% endfor %}"
    with pytest.raises(TemplateRefused, match="does not show to which of several answers its marks belong"):
        Template(chat_tokenizer(mute)).labelled(TURNS, [3])
