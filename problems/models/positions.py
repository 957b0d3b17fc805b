"""Refuses, before the training, rows and texts with more tokens than the model has positions: they would fail late.

The limits are read from the model. To try a long row instead would take minutes in a large model on a CPU; on a GPU,
where models in 4 bits are loaded, an error at a missing position would make CUDA unusable for the rest of the run.
"""

from collections.abc import Callable, Iterator, Sequence

from torch import nn
from transformers import PreTrainedModel

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.problems.data import Data
from autolora.problems.tasks.base import PAD_TO

# Names of position tables: in BERT and similar models; GPT-2; OPT, BART, RoFormer and, as a buffer, GPT-J; the first
# GPT; CTRL.
_TABLES = {"position_embeddings", "wpe", "embed_positions", "positions_embed", "pos_encoding"}


def most_positions(model: PreTrainedModel) -> int | None:
    """The most tokens that the model's tables of positions have room for; None for a model without such tables.

    Rotary and relative positions have no limit. MPT is the exception: its ALiBi table is neither a module nor a
    buffer, so the limit is read from its config.
    """
    if model.config.model_type == "mpt":
        return int(model.config.max_seq_len)
    rooms = list(_rooms(model))
    if not rooms:
        return None
    # The tables of Nystromformer and similar models have two unused rows; only the config shows this.
    claimed = getattr(model.config.get_text_config(), "max_position_embeddings", None) or 0
    return min([*rooms, claimed] if claimed > 0 else rooms)


def refuse_long_rows(model: PreTrainedModel, data: Data, config: RunConfig) -> None:
    """Raises UserError when a row, padded as in a batch, has more tokens than the model has positions."""
    parts = [data.train, *data.evaluation.values(), *([] if data.unused is None else [data.unused])]
    most, longest = most_positions(model), max(max(x["length"][:]) for x in parts)
    if most is not None and -(-longest // PAD_TO) * PAD_TO > most:
        raise UserError(
            f"--task.max_length: {config.task.max_length} is not allowed, as a row has {longest} tokens (batches are "
            f"padded to a multiple of {PAD_TO}) and {config.model.name} takes {most}; allowed: up to "
            f"{most // PAD_TO * PAD_TO}"
        )


def refuse_long_texts(
    model: PreTrainedModel, prompts: Callable[[], Sequence[Sequence[int]]], config: RunConfig
) -> None:
    """Raises UserError when a prompt and the longest text written for it together exceed the model's positions.

    `prompts` returns token ids; it is called only where it is needed.
    """
    most, longest_text = most_positions(model), config.task.decoding.max_new_tokens
    if most is None or config.task.max_length + longest_text <= most:
        return
    longest = max(map(len, prompts()), default=0)
    if longest > 0 and longest + longest_text > most:
        raise UserError(
            f"--task.decode.max_new_tokens: {longest_text} is not allowed, as a prompt has {longest} tokens and "
            f"{config.model.name} takes {most}; allowed: prompt and text together up to {most} tokens "
            f"(--task.max_length cuts the prompt)"
        )


def _rooms(model: nn.Module) -> Iterator[int]:
    """For each table of positions in the model, the number of positions that it has room for."""
    for name, module in model.named_modules():
        if name.rpartition(".")[2] in _TABLES and isinstance(module, nn.Embedding):
            yield module.num_embeddings - _unused(module)
    for name, buffer in model.named_buffers():
        if name.rpartition(".")[2] in _TABLES:
            yield buffer.shape[0]


def _unused(table: nn.Embedding) -> int:
    """Rows at the beginning of a table that are not positions.

    OPT and BART skip two rows, RoBERTa the rows up to its padding index.
    """
    if hasattr(table, "offset"):
        return int(table.offset)  # type: ignore[arg-type]
    return 0 if table.padding_idx is None else table.padding_idx + 1
