"""Decoding: padding changes nothing, names of the prompt may be said, nothing else comes twice."""

import pytest
import torch

from autolora.configs.tasks import Decoding
from autolora.problems.tasks.decoding import NoRepeatInAnswer, decode
from autolora.problems.tasks.template import PLAIN, Template
from tests.helpers.chat_toys import chat_tokenizer
from tests.helpers.generation_toys import make_causal

SOURCES = ["name : The Mill | area : riverside", "x", "name : Blue Spice"]


@pytest.mark.parametrize(("kind", "beams"), [("gpt2", 3), ("llama", 1)])
def test_a_batch_says_what_each_prompt_alone_says(kind: str, beams: int) -> None:
    tokenizer = chat_tokenizer(None)
    model = make_causal(kind, len(tokenizer))
    prompts = [
        Template(tokenizer, PLAIN).prompt([{"role": "user", "content": source}])
        for source in SOURCES
    ]
    settings = Decoding(num_beams=beams, max_new_tokens=6, batch_size=3)
    seen: list[int] = []
    ends = [tokenizer.eos_token_id]
    together = decode(model, tokenizer, prompts, settings, ends, seen.append)
    alone = [decode(model, tokenizer, [p], settings, ends)[0] for p in prompts]
    assert together == alone
    assert len({answer.text for answer in together}) > 1
    assert seen == [3]
    assert not any("endoftext" in answer.text for answer in together)


@pytest.mark.parametrize("penalty", [None, 5.0])
def test_greedy_is_the_argmax_of_the_model(penalty: float | None) -> None:
    """Also on a base that ships a penalty, as Qwen2.5 does, and by itself writes another text."""
    tokenizer = chat_tokenizer(None)
    tokens = 12
    model = make_causal("llama", len(tokenizer)).eval()
    model.generation_config.repetition_penalty = penalty
    prompt = Template(tokenizer, PLAIN).prompt([{"role": "user", "content": SOURCES[0]}])
    settings = Decoding(num_beams=1, max_new_tokens=tokens, no_repeat_ngram_size=0)
    (found,) = decode(model, tokenizer, [prompt], settings, [tokenizer.eos_token_id])
    ids = list(prompt)
    for _ in range(tokens):
        ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    answer = ids[len(prompt) :]
    assert found.ids == answer
    assert found.text == tokenizer.decode(answer, skip_special_tokens=True)
    by_itself = model.generate(torch.tensor([prompt]), max_new_tokens=tokens, do_sample=False)
    penalised = by_itself[0, len(prompt) :].tolist() != answer
    assert penalised is (penalty is not None)


def test_an_n_gram_of_the_prompt_is_allowed_and_one_of_the_answer_is_not() -> None:
    scores = torch.zeros(1, 10)
    ids = torch.tensor([[1, 2, 3, 7, 1, 2]])
    assert torch.isfinite(NoRepeatInAnswer(3, prompt_length=4)(ids, scores)).all()
    found = NoRepeatInAnswer(3, prompt_length=0)(ids, scores)
    assert found[0].isinf().nonzero().flatten().tolist() == [3]
