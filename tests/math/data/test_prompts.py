"""How a source is put to a model through its chat template, and what is cut when it is too long."""

from typing import Any

import pytest
from datasets import Dataset

from autolora.configs.errors import UserError
from autolora.configs.tasks import Generation as Settings
from autolora.problems.tasks.data_to_text import E2E, SourceTarget
from autolora.problems.tasks.generation import Generation
from autolora.problems.tasks.labels import IGNORED
from autolora.problems.tasks.prompts import ChatPrompt, Lost
from tests.helpers.chat_toys import CHATML, OURS, chat_tokenizer

SOURCE, TARGET = "name : The Mill | area : riverside", " The Mill is a pub. "


def mine(**settings: Any) -> Generation:
    return SourceTarget(Settings(type="generation", path="x.jsonl", **settings), 0)


def e2e(**settings: Any) -> Generation:
    return E2E(Settings(type="generation", benchmark="e2e", metrics=["bleu"], **settings))


@pytest.mark.parametrize("name", ["marked", "stripped spaces"])
def test_an_own_table_speaks_through_the_template(name: str) -> None:
    tokenizer, task = chat_tokenizer(OURS[name]), mine()
    row = task.encode(Dataset.from_dict({"source": [SOURCE], "target": [TARGET]}), tokenizer)[0]
    learned = [label for label in row["labels"] if label != IGNORED]
    given = row["input_ids"][: -len(learned)]
    assert tokenizer.decode(given) == f"<|im_start|>user\n{SOURCE}<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.decode(learned).strip() == "The Mill is a pub.<|im_end|>"
    (prompt,) = task.prompts(Dataset.from_dict({"source": [SOURCE]}), tokenizer)
    assert prompt == given, "what is decoded continues the prompt that was learned from"
    assert task.messages({"source": SOURCE}, tokenizer) == [{"role": "user", "content": SOURCE}]
    assert task.ends(tokenizer) == [tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")]


def test_too_long_a_prompt_loses_the_end_of_its_source_and_nothing_of_the_template() -> None:
    tokenizer = chat_tokenizer()
    prompt = ChatPrompt(tokenizer, None)
    whole, _, cut = prompt.labelled(SOURCE, TARGET, 10_000)
    assert cut == Lost(False, False, False)
    ids, labels, cut = prompt.labelled(SOURCE, TARGET, len(whole) - 4)
    assert cut == Lost(end_of_source=True, whole_source=False, end_of_answer=False)
    assert len(ids) == len(labels) == len(whole) - 4
    text = tokenizer.decode(ids)
    assert text.startswith("<|im_start|>user\nname : The Mill")
    assert text.endswith("<|im_end|>\n<|im_start|>assistant\nThe Mill is a pub.<|im_end|>\n")
    with pytest.raises(UserError, match=r"^--task\.max_length: 4 is too short for the prompt, which takes \d+ tokens"):
        prompt.labelled(SOURCE, TARGET, 4)


@pytest.mark.parametrize("template", [CHATML, OURS["marked"]], ids=["ChatML", "marked"])
def test_a_cut_answer_does_not_end_and_keeps_the_template_before_it(template: str) -> None:
    """It once kept its ending, so that the model learned to stop in the middle of an answer."""
    tokenizer = chat_tokenizer(template)
    prompt = ChatPrompt(tokenizer, None)
    around = prompt.head + prompt.tail
    for source in ("x", SOURCE):
        for tokens in (1, 5):
            ids, labels, cut = prompt.labelled(source, TARGET * 20, around + tokens)
            assert cut == Lost(end_of_source=False, whole_source=True, end_of_answer=True)
            assert len(ids) == len(labels) == around + tokens
            assert tokenizer.decode(ids[:around]) == "<|im_start|>user\n<|im_end|>\n<|im_start|>assistant\n"
            assert labels == [IGNORED] * around + ids[around:]
            assert TARGET.strip().startswith(tokenizer.decode(ids[around:]).strip())
    with pytest.raises(UserError, match=rf"which takes {around} tokens around .*; allowed: {around + 1} or more$"):
        prompt.labelled("x", TARGET, around)
    with pytest.raises(UserError, match=r"^--task\.max_length: .* is too short for the prompt"):
        prompt.cut(prompt.ids(SOURCE), around - 1)
