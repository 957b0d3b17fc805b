"""Labels that no loss counts, and the loss of a causal language model with few of its numbers in
memory at a time.

The scores (logits) of 2,048 tokens in a vocabulary of 49,152 are 384 MiB in fp32. An ordinary loss
holds them four times: as the model returned them, in fp32, as log-probabilities, and as the
gradient of these.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

IGNORED = -100
"""The label of a token that no loss and no metric counts: torch's cross entropy leaves it out by
default."""
CHUNK = 2**23
"""How many scores are converted to fp32 at a time."""
CHUNK_ON_GPU = 2**25
"""As many on a GPU, which is idle between small parts."""


def count_labels(labels: Any) -> int:
    """How many of these labels a loss averages over: all numbers with a point, and of others those
    that are not IGNORED."""
    found = torch.as_tensor(labels)
    return found.numel() if found.is_floating_point() else int((found != IGNORED).sum())


def token_loss(
    logits: Tensor, labels: Tensor, vocab_size: int, *, smoothing: float = 0.0, **options: Any
) -> Tensor:
    """The mean, over the labels that are not -100, of (1 - s) nll + s (mean over the vocabulary of
    -log p).

    Without gradients it is plain nll; NaN without labels. logits [rows, tokens, vocabulary], labels
    [rows, tokens], which are shifted here. Replaces the `loss_function` of a transformers model.
    Source of the smoothing s: LoRA's recipe (label_smooth).
    """
    targets = (
        nn.functional.pad(labels, (0, 1), value=IGNORED)[..., 1:].reshape(-1).to(logits.device)
    )
    weight = smoothing if torch.is_grad_enabled() else 0.0
    return (
        summed_loss(logits.reshape(-1, vocab_size), targets, smoothing=weight)
        / (targets != IGNORED).sum()
    )


def summed_loss(
    scores: Tensor, targets: Tensor, *, smoothing: float = 0.0, temperature: float = 1.0
) -> Tensor:
    """The sum of the losses of labels `targets` [labels] (-100: none) by `scores` [labels, classes]
    / `temperature`.

    Of more than CHUNK scores, the backward pass computes the losses again part by part, and keeps
    none.
    """
    chunk = CHUNK if scores.device.type == "cpu" else CHUNK_ON_GPU
    rows = max(1, chunk // scores.shape[-1])
    if len(scores) <= rows:
        return _sum(scores, targets, smoothing, temperature)
    parts = zip(scores.split(rows), targets.split(rows), strict=True)
    once: Any = {"use_reentrant": False, "preserve_rng_state": False}
    sums = [
        checkpoint(_sum, score, target, smoothing, temperature, **once) for score, target in parts
    ]
    return torch.stack(sums).sum()


def _sum(scores: Tensor, targets: Tensor, smoothing: float, temperature: float) -> Tensor:
    exact = scores.to(torch.promote_types(scores.dtype, torch.float32)) / temperature
    return nn.functional.cross_entropy(exact, targets, label_smoothing=smoothing, reduction="sum")
