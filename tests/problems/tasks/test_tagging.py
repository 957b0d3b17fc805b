"""Labels on the first token of each word, and entities counted over all words, whatever the tokenizer did to them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from autolora.configs.errors import UserError
from autolora.configs.schema import Autolora
from autolora.configs.tasks import Tokens
from autolora.problems.data import prepare
from autolora.problems.scoring import score_ner
from autolora.problems.tasks.base import Rows
from autolora.problems.tasks.labels import IGNORED
from autolora.problems.tasks.split_words import before_words
from autolora.problems.tasks.tagging import Tagging

TRAIN = "IL-2 B-protein\ngene O\n\na O\nCD-28 B-DNA\ncell I-DNA\n\nb O\n\nc B-RNA\n"


def task_of(folder: Path, train: str = TRAIN, test: str | None = None, **settings: Any) -> Tagging:
    path = folder / "d.conll"
    path.write_text(train)
    if test is not None:
        (folder / "t.conll").write_text(test)
        settings["test_path"] = str(folder / "t.conll")
    return Tagging(Tokens(type="tokens", path=str(path), **settings), seed=0)


@pytest.fixture(scope="module", params=["right", "left"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """Splits at hyphens and knows no control characters, as BERT's; pads on either side."""
    words = ["<pad>", "<s>", "</s>", "<unk>", "il", "-", "2", "gene", "a", "cd", "28", "cell", "b", "c"]
    inner = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", padding_side=request.param)


def rows_of(*sentences: tuple[list[str], list[str]]) -> Dataset:
    return Dataset.from_dict({"tokens": [s[0] for s in sentences], "tags": [s[1] for s in sentences]})


def test_tags_are_those_of_the_training_rows_outside_first_and_by_type(tmp_path: Path) -> None:
    task = task_of(tmp_path, test=TRAIN)
    task.rows()
    assert task.classes == ["O", "B-DNA", "I-DNA", "B-RNA", "B-protein"]
    assert task.head()["num_labels"] == 5
    assert task.head()["id2label"][2] == "I-DNA"
    assert task.head()["label2id"]["B-protein"] == 4


def test_tags_are_told_with_the_numbers_of_their_words(tmp_path: Path, log_lines: list[str]) -> None:
    told = "INFO data: 4 sentences of d.conll, 5 tags: O (3), B-DNA (1), I-DNA (1), B-RNA (1), B-protein (1)"
    task_of(tmp_path, test="z O\n").rows()
    task_of(tmp_path).rows()  # one sentence is held out
    assert log_lines == [told, told]


def test_the_first_token_of_a_word_carries_the_label(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    task = task_of(tmp_path, test=TRAIN)
    encoded = task.encode(task.rows().evaluation["test"], tokenizer)
    first = encoded[0]
    assert tokenizer.convert_ids_to_tokens(first["input_ids"]) == ["<s>", "il", "-", "2", "gene", "</s>"]
    assert first["labels"] == [IGNORED, 4, IGNORED, IGNORED, 0, IGNORED]
    assert first["length"] == 6
    assert encoded["words"][:] == [[0, 1], [0, 1, 2], [0], [0]]
    batch = task.collate(tokenizer)([encoded[0], encoded[2]])
    assert set(batch) == set(tokenizer.model_input_names) | {"labels"}
    assert batch["labels"].shape == batch["input_ids"].shape == (2, 8)
    assert batch["labels"][1].tolist().count(IGNORED) == 7


def right_outputs(task: Tagging, tokenizer: PreTrainedTokenizerFast, rows: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and labels as Trainer gives them, of a model that is right wherever it is asked; else it says I-DNA."""
    batch = task.collate(tokenizer)([rows[i] for i in range(len(rows))])
    labels = batch["labels"].numpy()
    return np.eye(len(task.classes))[np.where(labels == IGNORED, task.classes.index("I-DNA"), labels)], labels


def test_words_without_a_token_are_predicted_o_and_counted(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, log_lines: list[str]
) -> None:
    task = task_of(tmp_path, test=TRAIN, max_length=6)
    task.rows()
    log_lines.clear()
    sentences = [
        (["IL-2", "gene", "CD-28", "cell"], ["B-protein", "O", "B-DNA", "I-DNA"]),  # cut after "gene"
        (["a", "\x07", "c"], ["B-RNA", "B-DNA", "B-RNA"]),  # the control character is nothing to the tokenizer
        (["\x07"], ["B-DNA"]),  # a sentence of nothing
    ]
    encoded = task.encode(rows_of(*sentences), tokenizer)
    assert log_lines == [
        "WARNING 4 of the 8 words of 3 rows have no token (cut off by --task.max_length 6, or dropped by the "
        "tokenizer): O is predicted for them"
    ]
    outputs, labels = right_outputs(task, tokenizer, encoded)
    predicted = [["B-protein", "O", "O", "O"], ["B-RNA", "O", "B-RNA"], ["O"]]
    assert task.predicted(outputs, labels, encoded) == predicted
    found = task.metrics(outputs, labels, encoded)
    assert found["recall"] == pytest.approx(3 / 6), "all six entities count"
    assert found["precision"] == 1.0
    assert found["DNA.recall"] == 0.0
    assert found == pytest.approx(score_ner([tags for _, tags in sentences], predicted))
    assert task.predictions(outputs, labels, encoded).split("\n\n")[1] == (
        "a\tB-RNA\tB-RNA\n\x07\tB-DNA\tO\nc\tB-RNA\tB-RNA"
    )


@pytest.mark.parametrize("readable", ["some", "none"])
def test_training_sentences_without_a_token_are_told_and_not_trained_on(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, log_lines: list[str], readable: str
) -> None:
    """The mean loss of a batch of such sentences is NaN."""
    nothing = "\x07 B-DNA\n"
    train = nothing if readable == "none" else f"a O\n\n{nothing}\nb B-RNA\n"
    task = task_of(tmp_path, train=train, test=f"a O\n\n{nothing}")
    config = Autolora(task=task.config)
    if readable == "none":
        with pytest.raises(UserError, match=r"^--task\.path: no word of the 1 training rows has a token; allowed: "):
            prepare(task, tokenizer, config)
        return
    data = prepare(task, tokenizer, config)
    assert data.train["tokens"][:] == [["a"], ["b"]]
    assert [len(rows) for rows in data.evaluation.values()] == [2], "the metrics count its words as O"
    assert sum("1 of 3 training rows have no label" in line for line in log_lines) == 1
    told = [line.rpartition(": ")[2] for line in log_lines if "have no token (" in line]
    assert sorted(told) == ["O is predicted for them", "they are not trained on"]


def test_evaluation_sentences_without_any_token_are_refused_before_the_training(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    """Their loss is NaN, for which the learning rate was blamed after the training."""
    task = task_of(tmp_path, train="a O\n\nb B-DNA\n", test="\x07 B-DNA\n")
    with pytest.raises(UserError, match=r"^--task\.test_path: .*: no word of the 1 rows of test has a token; "):
        prepare(task, tokenizer, Autolora(task=task.config))


@pytest.mark.parametrize(
    ("asked", "first", "of_a_type"),
    [
        (None, ["f1", "precision", "recall"], ["DNA.precision", "DNA.recall", "DNA.f1"]),
        (["recall"], ["recall"], ["DNA.recall"]),
        (["precision", "f1"], ["precision", "f1"], ["DNA.precision", "DNA.f1"]),
    ],
)
def test_the_main_metric_comes_first_then_types(
    tmp_path: Path, tokenizer: PreTrainedTokenizerFast, asked: Any, first: list[str], of_a_type: list[str]
) -> None:
    task = task_of(tmp_path, test=TRAIN, metrics=asked)
    encoded = task.encode(task.rows().evaluation["test"], tokenizer)
    found = task.metrics(*right_outputs(task, tokenizer, encoded), encoded)
    assert list(found)[: len(first) + len(of_a_type)] == first + of_a_type
    assert set(found.values()) == {1.0}


def test_rows_are_held_out_by_seed_when_no_others_are_given(tmp_path: Path) -> None:
    def parts(seed: int) -> tuple[list[list[str]], list[list[str]]]:
        config = Tokens(type="tokens", path=str(tmp_path / "d.conll"), holdout_share=0.25)
        found: Rows = Tagging(config, seed).rows()
        return found.train["tokens"][:], found.evaluation["validation"]["tokens"][:]

    (tmp_path / "d.conll").write_text("\n".join(f"w{i} B-x\n" for i in range(20)))
    train, held_out = parts(0)
    assert (len(train), len(held_out)) == (15, 5)
    assert sorted(train + held_out) == sorted([f"w{i}"] for i in range(20))
    assert parts(0) == (train, held_out) != parts(1)


def test_a_tag_that_only_held_out_rows_have_is_no_mistake(tmp_path: Path) -> None:
    for seed in range(4):
        task = Tagging(Tokens(type="tokens", path=str(task_of(tmp_path).config.path), holdout_share=0.25), seed)
        task.rows()
        assert len(task.classes) == 5


def test_a_folder_stands_for_its_splits(tmp_path: Path) -> None:
    folder = tmp_path / "jnlpba"
    folder.mkdir()
    for split in ("train", "validation", "test"):
        line = json.dumps({"tokens": [split], "tags": ["B-x"]}) + "\n"
        (folder / f"{split}.jsonl").write_text(line)
    task = Tagging(Tokens(type="tokens", path=str(folder)), 0)
    assert task.name == "jnlpba"
    assert task.rows().train["tokens"][:] == [["train"]]
    assert task.rows().evaluation["test"]["tokens"][:] == [["test"]]
    task = Tagging(Tokens(type="tokens", path=str(folder), evaluation_split="validation"), 0)
    assert task.rows().evaluation["validation"]["tokens"][:] == [["validation"]]
    other = tmp_path / "mine.conll"
    other.write_text("mine B-x\n")
    task = Tagging(Tokens(type="tokens", path=str(folder), test_path=str(other)), 0)
    assert task.rows().evaluation["test"]["tokens"][:] == [["mine"]]
    assert not task.held_out
    for asked, split, word in ((None, "validation", "mine"), ("test", "test", "test")):
        settings: Any = {"path": str(folder), "validation_path": str(other), "evaluation_split": asked}
        evaluation = Tagging(Tokens(type="tokens", **settings), 0).rows().evaluation
        assert {name: rows["tokens"][:] for name, rows in evaluation.items()} == {split: [[word]]}
    with pytest.raises(UserError, match=r"^--task\.path: folder '.*' has no train file"):
        Tagging(Tokens(type="tokens", path=str(tmp_path)), 0)


@pytest.mark.parametrize("name", ["validation", "valid", "dev", "devel"])
def test_the_validation_rows_of_a_folder_may_have_the_names_that_corpora_use(tmp_path: Path, name: str) -> None:
    """A dev.conll was ignored, and a tenth of the training rows held out instead."""
    (tmp_path / "train.conll").write_text(TRAIN)
    (tmp_path / f"{name}.conll").write_text("a B-DNA\n")
    task = Tagging(Tokens(type="tokens", path=str(tmp_path)), 0)
    assert task.rows().evaluation["validation"]["tokens"][:] == [["a"]]
    assert not task.held_out


def test_a_folder_with_training_rows_alone_has_some_held_out(tmp_path: Path) -> None:
    (tmp_path / "train.conll").write_text(TRAIN)
    task = Tagging(Tokens(type="tokens", path=str(tmp_path)), 0)
    assert list(task.rows().evaluation) == ["validation"]
    assert task.held_out


@pytest.mark.parametrize(("name", "split"), [("test.json", "test"), ("dev.csv", "validation")])
def test_a_file_of_a_split_that_is_not_read_is_told(
    tmp_path: Path, name: str, split: str, log_lines: list[str]
) -> None:
    """The rows to evaluate on had been held out of the training rows without a word."""
    (tmp_path / "train.conll").write_text(TRAIN)
    (tmp_path / name).write_text("[]")
    Tagging(Tokens(type="tokens", path=str(tmp_path)), 0)
    assert log_lines == [
        f"WARNING --task.path: {name} of {tmp_path} is not read as rows of the split {split}; allowed: a file that "
        f"ends in .conll, .iob2, .tsv, .txt, .jsonl, .parquet"
    ]
    (tmp_path / f"{split}.txt").write_text(TRAIN)
    Tagging(Tokens(type="tokens", path=str(tmp_path)), 0)
    Tagging(Tokens(type="tokens", path=str(tmp_path), test_path="t.conll", validation_path="v.conll"), 0)
    assert len(log_lines) == 1, "nothing is missing"


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a new tag": ({"test": "a O\n\nb B-x\n"}, r"^--task\.test_path: .*t\.conll, line 3: tag 'B-x' does not occur in"),
    "no entity": ({"train": "a O\n\nb O\n"}, r"^--task\.path: .*d\.conll has no tag but O"),
    "one sentence": ({"train": "a B-x\n"}, r"^--task\.path: .*d\.conll has one sentence"),
    "columns": (
        {"text_columns": ["w"]},
        r"^--task\.text_columns: --task\.path is '.*d\.conll', whose columns have no",
    ),
    "tag column": ({"label_column": "t"}, r"^--task\.label_column: .* allowed: null$"),
    "absent": ({"validation_path": "no.conll"}, r"^--task\.validation_path: no file 'no\.conll'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_learned_is_one_line(tmp_path: Path, case: str) -> None:
    settings, message = WRONG[case]
    with pytest.raises(UserError, match=message) as caught:
        task_of(tmp_path, **settings).rows()
    assert "\n" not in str(caught.value)


def test_a_tokenizer_that_does_not_know_its_words_is_refused(tmp_path: Path) -> None:
    class Slow:
        is_fast = False

    with pytest.raises(UserError, match=r"^--model\.name: its tokenizer cannot tell which word"):
        task_of(tmp_path).encode(rows_of((["a"], ["O"])), Slow())  # type: ignore[arg-type]


def test_a_tokenizer_that_ignores_the_option_gets_a_blank_before_each_word(tmp_path: Path) -> None:
    """ModernBERT's class stores add_prefix_space and does not apply it: it had read `the dog` as `thedog`."""
    from autolora.configs.training import ModelConfig
    from autolora.problems.models.load import load_tokenizer

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate(["<pad>", *letters, "\u0120d"])}
    inner = Tokenizer(models.BPE(vocabulary, [("\u0120", "d")]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>").save_pretrained(tmp_path)
    tokenizer = load_tokenizer(ModelConfig(name=str(tmp_path)), **Tagging.tokenizer_options)
    rows = rows_of((["a", "dog", "U.S."], ["O", "B-protein", "O"]))
    task = task_of(tmp_path)
    task.rows()
    encoded = task.encode(rows, tokenizer)
    assert tokenizer.decode(encoded["input_ids"][0]) == " a dog U.S."
    assert "\u0120d" in tokenizer.convert_ids_to_tokens(encoded["input_ids"][0])
    assert encoded["words"][0] == [0, 1, 2]
    assert before_words(tokenizer) == " "


def test_a_byte_level_tokenizer_sees_words_as_inside_a_sentence(tmp_path: Path, model_folder: Callable) -> None:
    from transformers import GPT2TokenizerFast

    from autolora.configs.training import ModelConfig
    from autolora.problems.models.load import load_tokenizer

    vocabulary = {piece: number for number, piece in enumerate(["<|endoftext|>", "a", "b", "Ġ", "Ġa", "Ġb"])}
    GPT2TokenizerFast(vocab=vocabulary, merges=[("Ġ", "a"), ("Ġ", "b")]).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(ModelConfig(name=str(tmp_path)), **Tagging.tokenizer_options)
    assert tokenizer([["a", "b"]], is_split_into_words=True).tokens() == ["Ġa", "Ġb"]
