"""Texts for many prompts, by beam search or greedily: left-padded batches, longest first, to the
end of an answer."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from transformers import GenerationConfig, NoRepeatNGramLogitsProcessor, PreTrainedTokenizerBase

from autolora.configs.tasks import Decoding

_NEUTRAL = {
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": 0,
    "early_stopping": False,
}
"""generate takes what is not given from the base model's generation_config.json, and some bases
have a penalty there."""


class NoRepeatInAnswer(NoRepeatNGramLogitsProcessor):
    """No n-gram comes twice in an answer; n-grams of the prompt may be used once.

    transformers' own class also counts the n-grams of the prompt, so an answer could not repeat a
    name of four tokens from the prompt. LoRA's recipe looks at the answer only.
    """

    def __init__(self, ngram_size: int, prompt_length: int) -> None:
        super().__init__(ngram_size)
        self.prompt_length = prompt_length

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """input_ids [rows, prompt + answer], scores [rows, vocabulary]."""
        return super().__call__(input_ids[:, self.prompt_length :], scores)


class Written(NamedTuple):
    """An answer: its token ids, including its ending token if it has one, and their text without
    that token."""

    ids: list[int]
    text: str


@torch.no_grad()
def decode(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    settings: Decoding,
    ends: Sequence[int],
    after_batch: Callable[[int], None] = lambda done: None,
) -> list[Written]:
    """One answer for each prompt, up to one of the tokens `ends`.

    `after_batch` is called after each batch with the number of answers that are done. The model
    computes in the precision of its weights, without autocast, and is left in evaluation mode.
    """
    model.eval()
    wanted = GenerationConfig(
        num_beams=settings.num_beams,
        length_penalty=settings.length_penalty,
        max_new_tokens=settings.max_new_tokens,
        do_sample=False,
        eos_token_id=list(ends),
        pad_token_id=tokenizer.pad_token_id,
        **_NEUTRAL,
    )
    found: dict[int, Written] = {}
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    for start in range(0, len(order), settings.batch_size):
        rows = order[start : start + settings.batch_size]
        given: Any = {"input_ids": [list(prompts[row]) for row in rows]}
        batch = tokenizer.pad(given, padding_side="left", return_tensors="pt").to(model.device)
        length = batch["input_ids"].shape[1]
        size = settings.no_repeat_ngram_size
        processors: Any = [NoRepeatInAnswer(size, length)] if size else []
        answers = model.generate(**batch, generation_config=wanted, logits_processor=processors)[
            :, length:
        ]
        for row, ids in zip(rows, answers.tolist(), strict=True):
            # padding follows the end
            end = next((i for i, token in enumerate(ids) if token in ends), len(ids))
            found[row] = Written(
                ids[: end + 1], str(tokenizer.decode(ids[:end], skip_special_tokens=True))
            )
        after_batch(start + len(rows))
    return [found[row] for row in range(len(prompts))]
