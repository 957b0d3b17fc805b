"""Refuse models that do not predict the next token: transformers loads some of them for generation, too.

An encoder (RoBERTa) sees the tokens that it should predict; the loss of a decoder taken out of an encoder-decoder
(BART) compares its output with the token that it was just given. Both losses soon fall to 0, and the texts that these
models write are nonsense.
"""

from typing import Any

import torch

from autolora.configs.errors import UserError
from autolora.problems.tasks.labels import IGNORED

# Tokens with which both probe rows begin, and tokens behind them in which the rows differ.
_SHARED, _OTHER = 4, 4
# The largest change of a logit that counts as rounding, as a share of the change at the tokens that differ. fp32 stays
# a hundred times below it; a small random encoder is ten times above it.
_ROUNDING, _ROUNDING_4BIT = 1e-4, 0.02
# A loss of at most this many nats counts as none: a mixture of experts adds hundredths even where no label counts.
_NOTHING = 1.0


@torch.no_grad()
def refuse_other_models(model: Any, name: str) -> None:
    """Raises UserError, with the model's `name`, for one that is no next-token model.

    The model gets one batch of two rows that differ only in their last tokens: the logits at the tokens before must be
    equal. The only label is that of the first token, which no token predicts: the loss must not count it.
    """
    training = model.training
    model.eval()
    rows = probe_rows(model)
    labels = torch.full_like(rows, IGNORED)
    labels[:, 0] = rows[:, -1]
    found = model(input_ids=rows, attention_mask=torch.ones_like(rows), labels=labels)
    model.train(training)
    change = (found.logits[0] - found.logits[1]).abs()
    rounding = _ROUNDING_4BIT if getattr(model, "is_loaded_in_4bit", False) else _ROUNDING
    if change[:_SHARED].max() > rounding * change[_SHARED:].max():
        _refuse(model, name, "sees the tokens that it should predict")
    if found.loss > _NOTHING:  # the mean over no label is NaN, which is not above it
        _refuse(model, name, "is trained to predict the token that it is given, not the next one")


def _refuse(model: Any, name: str, why: str) -> None:
    raise UserError(
        f"--model.name: {name} ({type(model).__name__}) {why}; task generation (and chat) takes next-token "
        f"models, such as GPT-2 and Llama"
    )


def probe_rows(model: Any) -> torch.Tensor:
    """Token ids [2, 8] from all over the vocabulary; the rows begin with the same tokens."""
    vocabulary = model.config.get_text_config().vocab_size
    count = _SHARED + 2 * _OTHER
    ids = [vocabulary * (i + 1) // (count + 2) for i in range(count)]
    first, second = ids[: _SHARED + _OTHER], [*ids[:_SHARED], *ids[_SHARED + _OTHER :]]
    return torch.tensor([first, second], device=model.device)
