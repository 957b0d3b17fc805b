"""A class head of an encoder and decoder finds one end in each text."""

from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import Dataset
from transformers import AutoTokenizer, BartConfig, BartForSequenceClassification, BertForSequenceClassification

from autolora.configs.errors import UserError
from autolora.problems.data import Data
from autolora.problems.models.ends import refuse_ends_inside
from autolora.problems.tasks.base import Rows
from autolora.problems.tasks.classification import TextClassification


class Texts(TextClassification):
    """The shared part alone."""

    def rows(self) -> Rows:
        raise AssertionError("nothing here reads rows")


def encoded(task: TextClassification, tokenizer: object, texts: list[str]) -> Dataset:
    return task.encode(Dataset.from_dict({"text": texts, "label": [0] * len(texts)}), tokenizer)  # type: ignore[arg-type]


@pytest.mark.parametrize("where", ["train", "validation", "unused"])
def test_an_end_inside_a_text_is_refused_before_the_training(model_folder: Callable[..., Path], where: str) -> None:
    """A row of the evaluation file had ended a run of BART's in a traceback, after its training."""
    folder = model_folder("bert")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    end = tokenizer.eos_token
    sizes = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "vocab_size": len(tokenizer)}
    bart = BartForSequenceClassification(BartConfig(**sizes, **heads, eos_token_id=tokenizer.eos_token_id))
    task, plain = Texts(["text"], 16, []), ["the film", "our room"]

    def data(of: str) -> Data:
        parts = {name: encoded(task, tokenizer, plain + ([f"dull {end} room"] if name == of else []))
                 for name in ("train", "validation", "unused")}  # fmt: skip
        return Data(parts["train"], {"validation": parts["validation"]}, task.collate(tokenizer), parts["unused"])

    def origin(split: str | None) -> str:
        return f"--task.{split or 'train'}_path: a.csv"

    refuse_ends_inside(bart, data("none"), tokenizer, origin)
    named = "validation" if where == "validation" else "train"
    with pytest.raises(
        UserError, match=rf"^--task\.{named}_path: a\.csv: a text holds .* the end of the text: .*dull"
    ):
        refuse_ends_inside(bart, data(where), tokenizer, origin)
    bert = BertForSequenceClassification.from_pretrained(folder)
    refuse_ends_inside(bert, data(where), tokenizer, origin)
