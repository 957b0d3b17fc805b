"""The section `task`: what is learned, and from which rows. Each type has the keys that it reads, and its facts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from autolora.configs.places import short_name
from autolora.configs.section import (
    COST,
    EVALUATE,
    LARGEST,
    Count,
    CountFromZero,
    FilePath,
    Section,
    Seed,
    Share,
    ShareFromZero,
    Text,
    Width,
)

OF_CLASSES = ("accuracy", "matthews", "f1_macro")
OF_VALUES = ("spearman", "pearson", "mse")
OF_TAGS = ("f1", "precision", "recall")
OF_TOKENS = ("perplexity", "token_accuracy")
"""Metrics of a language model that are computed without writing texts."""
OFFICIAL = {"e2e": ("BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr"), "webnlg": ("BLEU", "METEOR", "TER")}
"""The metrics of the official scripts, in the order in which they are shown."""
OF_OWN_TEXTS = ("exact_match",)
"""Metrics of written texts beside the official ones."""
ERRORS = {"mse", "ter", "perplexity"}
"""Metrics of which less is better."""
COLUMNS = {
    "cola": ["sentence"], "sst2": ["sentence"], "mrpc": ["sentence1", "sentence2"], "qqp": ["question1", "question2"],
    "mnli": ["premise", "hypothesis"], "qnli": ["question", "sentence"], "rte": ["sentence1", "sentence2"],
    "wnli": ["sentence1", "sentence2"], "stsb": ["sentence1", "sentence2"],
}  # fmt: skip
"""The tasks of GLUE, and the columns with their texts."""
SAMPLE = Path(__file__).resolve().parent / "sample"
"""The program's own sentences, about which sample/README.md tells."""


def plain_name(metric: str) -> str:
    """A metric's name in small letters, with an underscore for a hyphen."""
    return metric.lower().replace("-", "_")


class Decoding(NamedTuple):
    """How a model writes texts, with every value filled in. The defaults are greedy decoding."""

    num_beams: int = 1
    length_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    max_new_tokens: int = 128
    batch_size: int = 8


class TaskSettings(Section):
    """What every task has."""

    headless: ClassVar[bool] = False
    """Whether models of this task have no task head."""
    from_paper: ClassVar[bool] = False
    """Whether splits and columns are those of a benchmark, not those of a user's own data."""

    metrics: Annotated[list[str] | None, Field(min_length=1), EVALUATE] = None
    """Metrics to report. null: accuracy for classes; Matthews for CoLA; Spearman and Pearson for numbers; f1,
    precision and recall of entities, in total and by type, for tokens; bleu, nist, meteor, rouge_l, cider for e2e;
    bleu, meteor, ter for webnlg; bleu for pairs; perplexity and token_accuracy for other conversations. Also
    available: f1_macro for classes, mse for numbers; for all conversations those of e2e and exact_match (the share of
    texts that equal a reference, for short answers), for which a text is written for every evaluated row. meteor,
    rouge_l and cider need Java; they and all of webnlg need the packages of `uv run --extra scoring`."""
    evaluation_split: Annotated[Text | list[Text] | None, EVALUATE] = None
    """Split that is evaluated for metrics.json, or several, each of which is also reported by itself; it may be an
    expression of the package datasets, such as train[4000:6000]. null: test if test_path is given, else validation; of
    a folder or a data set of the hub validation if it exists, else test (tokens, e2e, webnlg: test first); without
    one, some training rows are held out (holdout_share)."""
    evaluation_rows: Annotated[Count | None, EVALUATE] = None
    """Evaluate only this many rows of each evaluation split, evenly spread over it (the same for every seed); null:
    all. pairs, e2e: a row is a source with all its references."""
    max_length: Annotated[int, Field(ge=4, le=LARGEST)] = 128
    """Longest input in tokens (chat: the whole conversation); the end of longer ones is cut off. A batch is padded
    only to its own longest row."""
    train_rows: Count | None = None
    """Use only this many training rows, drawn by seed; null: all."""
    unused_rows: Annotated[CountFromZero, EVALUATE] = 0
    """With retrain.row_losses: also write the losses of at most this many training rows, drawn by seed, that
    train_rows leaves unused. Rows with the same input as a training row are skipped."""
    validation_share: Share = 0.5
    """Share of the training rows that becomes D_val; the rest is D_tr. Paper: 0.5."""
    seed: Seed | None = None
    """Seed for draws from the data: held-out rows, train_rows, D_tr and D_val. null: the run's seed; a number lets
    runs with different seeds use the same rows."""

    @property
    def known_metrics(self) -> tuple[str, ...]:
        """The metrics that `metrics` may name."""
        return OF_CLASSES

    @property
    def result_name(self) -> str:
        """What the task is called in results."""
        return "sample"

    @property
    def evaluated_split(self) -> str:
        """The split that metrics.json reports, where the settings alone say it; of several, with a plus between."""
        given = self.evaluation_split
        return "+".join(given) if isinstance(given, list) else given or "validation"

    @property
    def files(self) -> Mapping[str, str]:
        """The files and folders of rows that the settings name: key of this section -> path."""
        return {}

    def file_of(self, split: str) -> str | None:
        """The user's own file with the rows of a split; None if the rows come from elsewhere."""
        return self.files.get(f"{split}_path")

    @property
    def by_source(self) -> bool:
        """Whether rows of one source stay together when they are divided into D_tr and D_val."""
        return False

    @property
    def smoothing(self) -> float:
        """The share of label smoothing that training uses."""
        return 0.0

    @property
    def writes_texts(self) -> bool:
        """Whether the model writes texts after the training."""
        return False

    @property
    def decoding(self) -> Decoding:
        """How the model writes texts, each null filled in."""
        return Decoding()

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.metrics:
            strange = [name for name in self.metrics if plain_name(name) not in self.known_metrics]
            if strange:
                raise ValueError(f"metrics: {strange[0]!r} is not allowed; allowed: {', '.join(self.known_metrics)}")
        return self


class Sample(TaskSettings):
    """Review sentences that come with the program."""

    type: Literal["sample"] = "sample"
    evaluation_split: Literal["validation", "test"] | None = None
    """Split that is evaluated for metrics.json; null: test."""

    @property
    def evaluated_split(self) -> str:
        return self.evaluation_split or "test"

    @property
    def table(self) -> "Table":
        """The same as a table of texts."""
        return _table(self, path=str(SAMPLE), text_columns=["sentence"], evaluation_split=self.evaluated_split)


class Glue(TaskSettings):
    """A task of GLUE, with the columns, metrics and splits that it has on the hub."""

    type: Literal["glue"]
    glue: Literal["cola", "sst2", "mrpc", "qqp", "mnli", "qnli", "rte", "wnli", "stsb"]
    """Which task of GLUE."""
    path: FilePath = "nyu-mll/glue"
    """Hub name or local folder of GLUE."""
    revision: Text | None = None
    """Revision of the hub's data set (branch, tag or commit); null: the newest."""
    name: Text | None = None
    """A name for the results; null: the task's."""
    evaluation_split: Annotated[Text | list[Text] | None, EVALUATE] = None
    """Split that is evaluated for metrics.json; null: validation (of mnli matched and mismatched)."""

    from_paper: ClassVar[bool] = True

    @property
    def known_metrics(self) -> tuple[str, ...]:
        return OF_VALUES if self.glue == "stsb" else OF_CLASSES

    @property
    def result_name(self) -> str:
        return self.name or self.glue

    @property
    def files(self) -> Mapping[str, str]:
        return {"path": self.path}

    @property
    def table(self) -> "Table":
        """The same as a table of texts. AutoLoRA reports accuracy for MRPC and QQP, not F1."""
        both: Any = ["validation_matched", "validation_mismatched"] if self.glue == "mnli" else "validation"
        return _table(
            self, path=self.path, revision=self.revision, configuration=self.glue, name=self.result_name,
            text_columns=COLUMNS[self.glue], kind="regression" if self.glue == "stsb" else "classification",
            evaluation_split=self.evaluation_split or both,
            metrics=self.metrics or (["matthews"] if self.glue == "cola" else None),
        )  # fmt: skip


class OwnRows(TaskSettings):
    """Rows of the user's own, in files, in a folder or on the hub."""

    path: FilePath
    """Your rows: a file, a folder with its splits, or a data set of the hub. Files: .csv, .tsv, .jsonl, .json and
    .parquet, and for tokens also .conll, .iob2 and .txt (there .tsv, too, has the columns of CoNLL); each may be
    packed (.gz). In CSV and TSV every cell is a text; in TSV a double quote is a plain character. docs/chat.md says
    which columns are read of conversations."""
    name: Text | None = None
    """A name for the results; null: the file's name."""
    configuration: Text | None = None
    """Where path is a folder or a data set of the hub with several configurations: the name of one."""
    data_files: dict[str, Text | list[Text]] | None = None
    """Where path is a folder or a data set of the hub that does not tell its splits: split -> a pattern of its files,
    such as {train: "default/train/*.parquet"}."""
    revision: Text | None = None
    """Revision of the hub's data set (branch, tag or commit); null: the newest. Of a data set that a script makes, the
    hub keeps the rows as parquet in refs/convert/parquet; then give data_files, too."""
    train_split: Text | None = None
    """Split that is trained on (D_tr and D_val); it may be an expression such as train[:4000]. null: train or, without
    one, the first whose name begins with train."""
    validation_path: FilePath | None = None
    """Rows to evaluate on, in a file or folder of their own."""
    test_path: FilePath | None = None
    """Rows that are evaluated for metrics.json instead of the validation rows."""
    holdout_share: Share = 0.1
    """Share of the training rows that is held out for evaluation, drawn by seed, if no other rows are given for it.
    Rows of one text (chat: of one prompt) are held out together."""
    split_by: Literal["source", "row"] = "source"
    """What is divided between D_tr and D_val. source: all texts of a source (chat: all conversations that begin with
    one prompt; text and tokens: all rows of one text) stay together, so that no source of D_val is trained on in D_tr;
    row: each row by itself (the paper seems to do this)."""

    @property
    def result_name(self) -> str:
        return self.name or short_name(self.path)

    @property
    def evaluated_split(self) -> str:
        return super().evaluated_split if self.evaluation_split else "test" if self.test_path else "validation"

    @property
    def files(self) -> Mapping[str, str]:
        named = {"path": self.path, "validation_path": self.validation_path, "test_path": self.test_path}
        return {key: path for key, path in named.items() if path is not None}

    @property
    def by_source(self) -> bool:
        return self.split_by == "source"


class Table(OwnRows):
    """Your own table of texts and labels."""

    type: Literal["text"]
    text_columns: Annotated[list[Text] | None, Field(min_length=1, max_length=2)] = None
    """The column with the text, or the two columns of a pair; null: the column text or, if there is none, sentence."""
    label_column: Text | None = None
    """The column with the label; null: label. Numbers whose names are in the column's type are classes by these
    names."""
    kind: Literal["classification", "regression"] = "classification"
    """Whether labels are classes (two or more, found in the training rows) or numbers."""

    @property
    def known_metrics(self) -> tuple[str, ...]:
        return OF_VALUES if self.kind == "regression" else OF_CLASSES

    @property
    def table(self) -> Self:
        """Itself."""
        return self


def _table(own: TaskSettings, **values: Any) -> Table:
    """The table of a task that is known by its name, with the settings that every task has."""
    shared = {key: getattr(own, key) for key in TaskSettings.model_fields}
    return Table(**{**shared, "type": "text", **values})


class Tokens(OwnRows):
    """Your own sentences with a tag (IOB2) on each word."""

    type: Literal["tokens"]
    text_columns: Annotated[list[Text] | None, Field(min_length=1, max_length=1)] = None
    """The column with the list of words; null: tokens. Files of columns (CoNLL) have no names: there the word comes
    first and the tag last."""
    label_column: Text | None = None
    """The column with the list of tags; null: tags or, without one, ner_tags. Tags are texts, or numbers whose names
    are in the column's type."""

    @property
    def known_metrics(self) -> tuple[str, ...]:
        return OF_TAGS


class Decode(Section):
    """How the model writes texts after the training. null: for e2e and webnlg the values of the LoRA paper's code for
    GPT-2, for all others greedy decoding."""

    num_beams: Width | None = None
    """Number of beams; 1 is greedy. null: 10 for e2e and webnlg, else 1."""
    length_penalty: Annotated[float | None, Field(ge=-10, le=10)] = None
    """A beam's log-probability is divided by its length to this power; above 0 favours long texts. null: 0.8 for e2e
    and webnlg, else 1."""
    no_repeat_ngram_size: CountFromZero | None = None
    """No n-gram of this size occurs twice in a text; 0: no such limit. null: 4 for e2e and webnlg, else 0."""
    max_new_tokens: Annotated[int | None, Field(ge=1, le=LARGEST)] = None
    """Longest text in tokens. null: 64 for e2e and webnlg, else 128."""
    batch_size: Annotated[Count, COST] = 8
    """Number of texts that are written at a time, each with all its beams."""


class Chat(OwnRows):
    """Conversations, whose assistant turns are learned: your own, pairs of a source and a target, E2E, WebNLG."""

    type: Literal["chat"]
    format: Literal["messages", "sharegpt", "completion", "alpaca", "text", "pairs", "e2e", "webnlg"] | None = None
    """How a row becomes a conversation (docs/chat.md). pairs: a source and a target, or a list of targets; e2e and
    webnlg: these data sets, with the recipe of LoRA's code for GPT-2. null: the first of messages, sharegpt,
    completion, alpaca and text whose columns are there."""
    text_columns: Annotated[list[Text] | None, Field(min_length=1, max_length=1)] = None
    """pairs: the column with the source; null: source."""
    label_column: Text | None = None
    """pairs: the column with the target or a list of targets; null: target."""
    chat_template: FilePath | None = None
    """The Jinja template that turns a conversation into one text: a file, or plain (the source and the token that
    begins a text, then the answer, as in the LoRA paper's code for GPT-2). null: plain for e2e and webnlg, else the
    model's own. It is saved with the adapter."""
    label_smoothing: ShareFromZero | None = None
    """Share of a token's weight that training spreads over the vocabulary; null: 0.1 for e2e and webnlg (as in the
    LoRA paper's code), else 0."""
    samples: Annotated[CountFromZero, EVALUATE] = 5
    """After the training, write answers to this many of the evaluated conversations, into samples.jsonl and the
    report; 0: none. For metrics of texts (pairs, e2e, webnlg) the answers to all of them are written instead."""
    decode: Annotated[Decode, EVALUATE] = Decode()

    evaluation_split: Annotated[Text | None, EVALUATE] = None
    """Split that is evaluated for metrics.json. null: test if test_path is given, else validation; of a folder or a
    data set of the hub validation if it exists, else test, for e2e and webnlg in the other order; without one, some
    training rows are held out (holdout_share)."""

    headless: ClassVar[bool] = True

    @property
    def from_paper(self) -> bool:  # type: ignore[override]
        """As for every task: whether the rows are those of a benchmark."""
        return self.format in OFFICIAL

    @property
    def official(self) -> tuple[str, ...]:
        """The metrics of the official scripts that can be reported."""
        return OFFICIAL[self.format if self.format in OFFICIAL else "e2e"]

    @property
    def known_metrics(self) -> tuple[str, ...]:
        return (*map(plain_name, self.official), *OF_OWN_TEXTS, *OF_TOKENS)

    @property
    def reported(self) -> list[str]:
        """The metrics that are reported first, by their plain names."""
        pairs = self.format == "pairs" or self.text_columns or self.label_column
        default = self.official if self.from_paper else ("bleu",) if pairs else OF_TOKENS
        return list(map(plain_name, self.metrics or default))

    @property
    def asked(self) -> list[str]:
        """The metrics of the official scripts that are reported."""
        return [name for name in self.official if plain_name(name) in self.reported]

    @property
    def scores_texts(self) -> bool:
        """Whether a text is written for every evaluated row, and scored."""
        return not set(self.reported) <= set(OF_TOKENS)

    @property
    def result_name(self) -> str:
        return self.name or (str(self.format) if self.from_paper else short_name(self.path))

    @property
    def smoothing(self) -> float:
        return (0.1 if self.from_paper else 0.0) if self.label_smoothing is None else self.label_smoothing

    @property
    def writes_texts(self) -> bool:
        return self.scores_texts or self.samples > 0

    @property
    def decoding(self) -> Decoding:
        """As for every task; the recipe's values must never be the defaults for a user's own rows. Source:
        microsoft/LoRA, examples/NLG."""
        recipe = Decoding(10, 0.8, 4, 64) if self.from_paper else Decoding()
        return recipe._replace(**{key: value for key, value in vars(self.decode).items() if value is not None})

    @model_validator(mode="after")
    def _columns_of_pairs(self) -> Self:
        if (self.text_columns or self.label_column) and self.format not in (None, "pairs"):
            raise ValueError(f"text_columns: {self.format} has columns of its own; allowed: format pairs")
        return self


AnyTask = Annotated[Sample | Table | Tokens | Chat | Glue, Field(discriminator="type")]
