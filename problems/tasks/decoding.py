"""Texts for many prompts, by beam search or greedily: left-padded batches, longest first, to the end of an answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, LogitsProcessorList, NoRepeatNGramLogitsProcessor, PreTrainedTokenizerBase

from autolora.configs.tasks import Decoding

_NEUTRAL = {
    "repetition_penalty": 1.0, "encoder_repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "min_length": 0,
    "min_new_tokens": 0, "early_stopping": False,
}  # fmt: skip
"""generate takes what is not given from the base model's generation_config.json, and some bases have a penalty
there."""


class NoRepeatInAnswer(NoRepeatNGramLogitsProcessor):
    """No n-gram comes twice in an answer; n-grams of the prompt may be used once.

    transformers' own class also counts the n-grams of the prompt, so an answer could not repeat a name of four tokens
    from the prompt. LoRA's recipe looks at the answer only.
    """

    def __init__(self, ngram_size: int, prompt_length: int) -> None:
        super().__init__(ngram_size)
        self.prompt_length = prompt_length

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """input_ids [rows, prompt + answer], scores [rows, vocabulary]."""
        return super().__call__(input_ids[:, self.prompt_length :], scores)


@dataclass(frozen=True)
class Written:
    """An answer: its token ids, including its ending token if it has one, and their text without that token."""

    ids: list[int]
    text: str


@torch.no_grad()
def decode(
    model: Any, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Sequence[int]], settings: Decoding,
    ends: Sequence[int], after_batch: Callable[[int], None] = lambda done: None,
) -> list[Written]:  # fmt: skip
    """One answer for each prompt, up to one of the tokens `ends`.

    `after_batch` is called after each batch with the number of answers that are done. The model computes in the
    precision of its weights, without autocast, and is left in evaluation mode.
    """
    model.eval()
    found: dict[int, Written] = {}
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    for start in range(0, len(order), settings.batch_size):
        rows = order[start : start + settings.batch_size]
        for row, ids in zip(rows, _answers(model, tokenizer, [prompts[i] for i in rows], settings, ends), strict=True):
            length = next((i for i, token in enumerate(ids) if token in ends), len(ids))  # padding follows the end
            text = str(tokenizer.decode(ids[:length], skip_special_tokens=True))
            found[row] = Written(ids[: length + 1], text)
        after_batch(start + len(rows))
    return [found[row] for row in range(len(prompts))]


def _answers(
    model: Any, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Sequence[int]], settings: Decoding,
    ends: Sequence[int],
) -> list[list[int]]:  # fmt: skip
    """Token ids of the best beam of each prompt, without the prompt; [rows, tokens], padded behind the end."""
    pad: Any = ends[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    length = max(map(len, prompts))
    ids = torch.tensor([[pad] * (length - len(p)) + list(p) for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    processors = LogitsProcessorList()
    if settings.no_repeat_ngram_size:
        processors.append(NoRepeatInAnswer(settings.no_repeat_ngram_size, length))
    wanted = GenerationConfig(
        num_beams=settings.num_beams, length_penalty=settings.length_penalty, max_new_tokens=settings.max_new_tokens,
        do_sample=False, eos_token_id=list(ends), pad_token_id=pad, **_NEUTRAL,
    )  # fmt: skip
    found = model.generate(input_ids=ids, attention_mask=mask, generation_config=wanted, logits_processor=processors)
    answers: list[list[int]] = found[:, length:].tolist()
    return answers
