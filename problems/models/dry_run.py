"""What a freshly loaded model can do, found before the training: how long a row may be, which layers the rows pass
through, and whether it predicts the next token."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.problems.data import Data
from autolora.problems.machine.compute import holds_bf16
from autolora.problems.models.layers import is_matrix
from autolora.problems.models.snapshot import Snapshot
from autolora.problems.tasks.base import PAD_TO

log = logging.getLogger("autolora.inputs")

_TABLES = ("position_embeddings", "wpe", "embed_positions", "positions_embed")
"""Names of position tables: in BERT and similar models; GPT-2; OPT and BART; the first GPT."""
_MAMBA, _OF_KERNELS = ("mamba", "falcon_", "nemotron_h", "bamba", "granitemoehybrid", "zamba2"), ("x_proj", "out_proj")
"""How the types of these models begin, and the layers that a GPU's kernel reads past LoRA, although a CPU calls
them."""
_SHARED, _OTHER = 4, 4
"""Tokens with which both probe rows begin, and tokens behind them in which the rows differ."""


def most_positions(model: nn.Module) -> int | None:
    """The most tokens that the model's tables of positions have room for; None for a model without such tables.

    OPT and BART skip two rows of a table, RoBERTa those up to its padding index: of 514 rows 512 are left.
    """
    rooms = []
    for name, table in model.named_modules():
        if name.rpartition(".")[2] in _TABLES and isinstance(table, nn.Embedding):
            before = 0 if table.padding_idx is None else table.padding_idx + 1
            rooms.append(table.num_embeddings - int(getattr(table, "offset", before)))
    return min(rooms, default=None)


def refuse_long_rows(model: nn.Module, data: Data, config: RunConfig, prompts: Sequence[Sequence[int]] = ()) -> None:
    """Raises UserError when a row, padded as in a batch, or a prompt with the text that is written for it, has more
    tokens than the model has positions: on a GPU the program would end at such a row, hours later."""
    most = most_positions(model)
    if most is None:
        return
    parts = [data.train, *data.evaluation.values(), *([] if data.unused is None else [data.unused])]
    longest = -(-max(max(part["length"][:]) for part in parts) // PAD_TO) * PAD_TO
    longest = max(longest, *(len(prompt) + config.task.decoding.max_new_tokens for prompt in prompts), 0)
    if longest > most:
        raise UserError(f"--task.max_length: {config.model.name} takes {most} tokens, and a row (with padding, or "
                        f"with --task.decode.max_new_tokens) has {longest}; allowed: a lower value")  # fmt: skip


def mark_unreached(model: nn.Module, run: Callable[[], Any]) -> Any:
    """Calls `run`, which sends a batch through the model, in evaluation mode without gradients; returns its result.

    Linear layers that were not called get the attribute `reached` = False: their weights are read past LoRA
    (nn.MultiheadAttention, the fast path of torch's encoder layer, Mamba), or the rows do not pass through them, as
    through a tower for images. A layer in an expert counts as reached, as the batch may have no token for it.
    """
    layers: dict[str, Any] = {name: module for name, module in model.named_modules() if is_matrix(module)}
    called: set[str] = set()
    before = Snapshot(model)
    for name, layer in layers.items():
        # Not a hook: a module with hooks never takes the fast path.
        layer.forward = partial(_called, called, name, layer.forward)
    model.eval()
    # Where some weights are in bf16, a script's head may be in fp32.
    autocast = torch.autocast(next(model.parameters()).device.type, torch.bfloat16, enabled=holds_bf16(model))
    try:
        with torch.no_grad(), autocast:
            found = run()
    finally:
        before.restore()
    is_mamba = getattr(getattr(model, "config", None), "model_type", "").startswith(_MAMBA)
    unreached = [
        name
        for name in layers
        if (name not in called and "experts" not in name.split(".")) or (is_mamba and name.endswith(_OF_KERNELS))
    ]
    for name in unreached:
        layers[name].reached = False
    if unreached:
        log.info("%d linear layers, such as %s, get no LoRA, as the rows do not pass through them", len(unreached),
                 unreached[0])  # fmt: skip
    return found


def _called(called: set[str], name: str, forward: Callable[..., Any], *inputs: Any, **options: Any) -> Any:
    called.add(name)
    return forward(*inputs, **options)


def refuse_other_models(model: Any, name: str) -> None:
    """Marks the layers that a batch of tokens does not reach, and raises UserError, with the model's `name`, for one
    that sees the tokens that it should predict, as an encoder does: its loss would soon fall to 0.

    The batch has two rows that differ only in their last tokens: the logits at the tokens before must be equal, up to
    rounding (fp32 stays a hundred times below the bound; a small random encoder is ten times above it).
    """
    count, vocabulary = _SHARED + 2 * _OTHER, model.config.get_text_config().vocab_size
    ids = vocabulary * torch.arange(1, count + 1, device=model.device) // (count + 2)  # from all over the vocabulary
    shared, one, other = ids.split([_SHARED, _OTHER, _OTHER])
    rows = torch.stack([torch.cat([shared, one]), torch.cat([shared, other])])
    logits = mark_unreached(model, lambda: model(input_ids=rows, attention_mask=torch.ones_like(rows))).logits
    change = (logits[0] - logits[1]).abs()
    rounding = 0.02 if getattr(model, "is_loaded_in_4bit", False) else 1e-4
    if change[:_SHARED].max() > rounding * change[_SHARED:].max():
        raise UserError(f"--model.name: {name} ({type(model).__name__}) sees the tokens that it should predict; task "
                        f"chat takes next-token models, such as GPT-2 and Llama")  # fmt: skip
