"""Check that a class head which reads the end of a text finds one end in each text."""

from collections import Counter
from collections.abc import Callable

from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from autolora.configs.errors import UserError
from autolora.problems.data import Data

_SHOWN = 60
"""Letters of a text that a message shows."""


def refuse_ends_inside(
    model: PreTrainedModel, data: Data, tokenizer: PreTrainedTokenizerBase, origin: Callable[[str | None], str]
) -> None:
    """Raises UserError for a row that holds the end token more often than the others, if the model is an encoder and
    decoder with a class head: BART and T5 refuse a batch of such rows, perhaps only after the training.

    A text that holds the letters of the token, such as `</s>` of a web page, has it once more. `origin` names the file
    of a split (None: that of the training rows).
    """
    end = getattr(model.config, "eos_token_id", None)
    if not model.config.is_encoder_decoder or "SequenceClassification" not in type(model).__name__ or end is None:
        return
    usual = Counter(_ends(data.train, end)).most_common(1)[0][0]
    parts: list[tuple[str | None, Dataset]] = [(None, data.train), *data.evaluation.items()]
    parts += [] if data.unused is None else [(None, data.unused)]
    for split, rows in parts:
        wrong = next((number for number, ends in enumerate(_ends(rows, end)) if ends != usual), None)
        if wrong is not None:
            text = tokenizer.decode(rows[wrong]["input_ids"])
            raise UserError(
                f"{origin(split)}: a text holds {tokenizer.eos_token!r}, which {model.config.name_or_path} reads as "
                f"the end of the text: {text[:_SHOWN]!r}; remove it from the text"
            )


def _ends(rows: Dataset, end: int) -> list[int]:
    """How often each row has the end token."""
    return [ids.count(end) for ids in rows["input_ids"][:]]
