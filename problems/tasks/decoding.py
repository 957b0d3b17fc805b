"""Beam search over many prompts: left-padded batches, longest first, to the end of text."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, NoRepeatNGramLogitsProcessor, PreTrainedTokenizerBase

from configs.schema import DecodeSettings
from problems.machine.compute import Compute
from problems.tasks.generation import end_of_text


class NoRepeatInAnswer(NoRepeatNGramLogitsProcessor):
    """No n-gram comes twice in an answer; those of the prompt may be used.

    transformers' own counts the prompt in, and would so forbid every name of four tokens that is to be said. LoRA's
    recipe looks at the answer only.
    """

    def __init__(self, ngram_size: int, prompt_length: int) -> None:
        super().__init__(ngram_size)
        self.prompt_length = prompt_length

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """input_ids [rows, prompt + answer], scores [rows, vocabulary]."""
        return super().__call__(input_ids[:, self.prompt_length :], scores)


@torch.no_grad()
def decode(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    settings: DecodeSettings,
    compute: Compute,
    after_batch: Callable[[int], None] = lambda done: None,
) -> list[str]:
    """One text a prompt, white space as single spaces. `after_batch` is told how many are done so far.

    In the weights' own precision, without autocast. The model is left in evaluation mode.
    """
    model.eval()
    texts = [""] * len(prompts)
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    for start in range(0, len(order), settings.batch_size):
        rows = order[start : start + settings.batch_size]
        answers = _answers(model, tokenizer, [prompts[i] for i in rows], settings, compute)
        for row, answer in zip(rows, tokenizer.batch_decode(answers, skip_special_tokens=True), strict=True):
            texts[row] = " ".join(answer.split())
        after_batch(start + len(rows))
    return texts


def _answers(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Sequence[int]],
    settings: DecodeSettings,
    compute: Compute,
) -> Tensor:
    """Token ids of the best beam of each prompt, without the prompt. [rows, tokens]"""
    end = end_of_text(tokenizer)
    pad = end if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    length = max(map(len, prompts))
    ids = torch.tensor([[pad] * (length - len(p)) + list(p) for p in prompts], device=compute.device)
    mask = torch.tensor([[0] * (length - len(p)) + [1] * len(p) for p in prompts], device=compute.device)
    processors = LogitsProcessorList()
    if settings.no_repeat_ngram_size:
        processors.append(NoRepeatInAnswer(settings.no_repeat_ngram_size, length))
    wanted = GenerationConfig(
        num_beams=settings.num_beams,
        length_penalty=settings.length_penalty,
        max_new_tokens=settings.max_new_tokens,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=pad,
    )
    found: Tensor = model.generate(
        input_ids=ids, attention_mask=mask, generation_config=wanted, logits_processor=processors
    )
    return found[:, length:]
