"""Labels on the first token of each word, and entities counted over all words, whatever the
tokenizer did to them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from autolora.configs.errors import UserError
from autolora.configs.tasks import Tokens
from autolora.problems.scoring import score_ner
from autolora.problems.tasks.base import Trained
from autolora.problems.tasks.losses import IGNORED
from autolora.problems.tasks.preparation import prepare
from autolora.problems.tasks.sources import HeldOut
from autolora.problems.tasks.tags import Tags, first_tokens

TRAIN = "IL-2 B-protein\ngene O\n\na O\nCD-28 B-DNA\ncell I-DNA\n\nb O\n\nc B-RNA\n"


def task_of(folder: Path, train: str = TRAIN, test: str = TRAIN, **settings: Any) -> Tags:
    (folder / "d.conll").write_text(train)
    (folder / "t.conll").write_text(test)
    paths = {"path": str(folder / "d.conll"), "test_path": str(folder / "t.conll")}
    return Tags(Tokens(type="tokens", **{**paths, **settings}), seed=0)


@pytest.fixture(scope="module", params=["right", "left"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """Splits at hyphens and knows no control characters, as BERT's; pads on either side."""
    words = [
        "<pad>",
        "<s>",
        "</s>",
        "<unk>",
        "il",
        "-",
        "2",
        "gene",
        "a",
        "cd",
        "28",
        "cell",
        "b",
        "c",
    ]
    inner = Tokenizer(
        models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>")
    )
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", padding_side=request.param
    )


def test_tags_are_those_of_the_training_rows_outside_first_and_by_type(tmp_path: Path) -> None:
    task = task_of(tmp_path)
    assert task.classes == ["O", "B-DNA", "I-DNA", "B-RNA", "B-protein"]
    assert task.head()["label2id"]["B-protein"] == 4


def test_the_first_token_of_a_word_carries_the_label(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    task = task_of(tmp_path)
    encoded = task.encode(task.raw.evaluation["test"], tokenizer, "test")
    first = encoded[0]
    assert tokenizer.convert_ids_to_tokens(first["input_ids"]) == [
        "<s>",
        "il",
        "-",
        "2",
        "gene",
        "</s>",
    ]
    assert first["labels"] == [IGNORED, 4, IGNORED, IGNORED, 0, IGNORED]
    assert first["length"] == 6
    assert encoded["firsts"][0] == [1, 4]
    batch = task.collate(tokenizer)([encoded[0], encoded[2]])
    assert set(batch) == set(tokenizer.model_input_names) | {"labels"}
    assert batch["labels"].shape == batch["input_ids"].shape == (2, 8)
    assert batch["labels"][1].tolist().count(IGNORED) == 7


@pytest.mark.parametrize("trimmed", [True, False])
@pytest.mark.parametrize("prefix", [True, False])
def test_the_first_token_of_a_word_has_its_first_character(trimmed: bool, prefix: bool) -> None:
    """Byte-level tokenizers count the blank before a word to its first token, or do not."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(
        models.BPE({token: n for n, token in enumerate([*letters, "\u0120d"])}, [("\u0120", "d")])
    )
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    inner.post_processor = processors.ByteLevel(trim_offsets=trimmed)
    words = ["d", "dé", "U."]
    encoded = inner.encode(" ".join(words))
    found = first_tokens(encoded, words)
    assert [encoded.tokens[token].lstrip("\u0120") for token in found] == ["d", "d", "U"]


def right(task: Tags, tokenizer: PreTrainedTokenizerFast, rows: Dataset) -> np.ndarray:
    """The predictions of a model that is right wherever it is asked; else it says I-DNA."""
    labels = task.collate(tokenizer)([rows[i] for i in range(len(rows))])["labels"]
    outputs = np.eye(len(task.classes))[
        np.where(labels == IGNORED, task.classes.index("I-DNA"), labels)
    ]
    return task.predicted(torch.from_numpy(outputs), labels).numpy()


def test_words_without_a_token_are_predicted_o_and_counted(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    task = task_of(tmp_path, max_length=6)
    sentences = [
        # cut after "gene"
        (["IL-2", "gene", "CD-28", "cell"], ["B-protein", "O", "B-DNA", "I-DNA"]),
        # the control character is nothing to the tokenizer
        (["a", "\x07", "c"], ["B-RNA", "B-DNA", "B-RNA"]),
        (["\x07"], ["B-DNA"]),  # a sentence of nothing
    ]
    words, tags = zip(*sentences, strict=True)
    encoded = task.encode(Dataset.from_dict({"tokens": words, "tags": tags}), tokenizer, "test")
    found = right(task, tokenizer, encoded)
    predicted = [["B-protein", "O", "O", "O"], ["B-RNA", "O", "B-RNA"], ["O"]]
    metrics = task.metrics(found, encoded, 0.0)
    assert metrics["recall"] == pytest.approx(3 / 6), "all six entities count"
    assert metrics == pytest.approx(score_ner(list(tags), predicted))
    table = task.predictions(found, encoded)
    assert table["predicted"].tolist() == [tag for row in predicted for tag in row]
    assert table.iloc[5].to_dict() == {
        "sentence": 1,
        "word": "\x07",
        "tag": "B-DNA",
        "predicted": "O",
    }


def test_sentences_without_a_token_are_not_trained_on(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    """The mean loss of a batch of such sentences is NaN; the metrics count their words as O."""
    task = task_of(tmp_path, "a O\n\n\x07 B-DNA\n\nb B-RNA\n", "a O\n\n\x07 B-DNA\n")
    data = prepare(task, tokenizer)
    assert data.train.examples["tokens"][:] == [["a"], ["b"]]
    assert [len(rows) for rows in data.evaluation.values()] == [2]


def test_numbers_of_tags_have_the_names_of_the_columns_type(tmp_path: Path) -> None:
    features = Features(
        {
            "tokens": Sequence(Value("string")),
            "ner_tags": Sequence(ClassLabel(names=["O", "B-RNA"])),
        }
    )
    Dataset.from_dict({"tokens": [["mRNA", "x"]], "ner_tags": [[1, 0]]}, features).to_parquet(
        str(tmp_path / "a.parquet")
    )
    task = task_of(tmp_path, path=str(tmp_path / "a.parquet"), test="a B-RNA\n")
    assert task.raw.train.to_list() == [{"tokens": ["mRNA", "x"], "tags": ["B-RNA", "O"]}]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, "not as many tags as words"),
        ({"tokens": ["a"], "tags": ["S-x"]}, "tag 'S-x' is not allowed; allowed: O, B-TYPE"),
        ({"words": ["a"], "tags": ["O"]}, "no column 'tokens'; it has: words, tags"),
    ],
)
def test_rows_without_a_tag_a_word_are_refused(
    tmp_path: Path, row: dict[str, Any], said: str
) -> None:
    (tmp_path / "d.jsonl").write_text(json.dumps(row))
    with pytest.raises(UserError, match=said):
        _ = task_of(tmp_path, path=str(tmp_path / "d.jsonl")).raw


def test_a_tag_that_training_lacks_is_refused(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    task = task_of(tmp_path, test="a O\n\nb B-x\n")
    with pytest.raises(
        UserError, match=r"--task.test_path: .*t\.conll: label 'B-x' does not occur"
    ):
        task.encode(task.raw.evaluation["test"], tokenizer, "test")


def test_tags_of_a_trained_head_without_names_have_the_order_of_the_column(tmp_path: Path) -> None:
    names = ["O", "B-PER", "B-LOC"]
    features = Features(
        {"tokens": Sequence(Value("string")), "ner_tags": Sequence(ClassLabel(names=names))}
    )
    rows = Dataset.from_dict({"tokens": [["a", "b"]], "ner_tags": [[2, 1]]}, features=features)
    trained = Trained(HeldOut(rows, "rows", "--data"), outputs=3)
    task = Tags(Tokens(type="tokens", path="rows"), seed=0, trained=trained)
    assert task.classes == names
    assert task.raw.train["tags"][:] == [["B-LOC", "B-PER"]]
