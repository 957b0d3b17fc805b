"""The section `task`: what is learned, and from which rows. Each type has the keys that it reads,
and its facts."""

from typing import Annotated, ClassVar, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from autolora.configs.locations import short_name
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
OFFICIAL = {
    "e2e": ("BLEU", "NIST", "METEOR", "ROUGE_L", "CIDEr"),
    "webnlg": ("BLEU", "METEOR", "TER"),
}
"""The metrics of the official scripts, in the order in which they are shown."""
OF_OWN_TEXTS = ("exact_match",)
"""Metrics of written texts beside the official ones."""
ERRORS = {"mse", "ter", "perplexity"}
"""Metrics of which less is better."""
SAMPLE = "autolora/sample"
"""The path of the program's own sentences, which lie in configs/sample/."""


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
    """Whether the rows are a benchmark's, with a recipe, and not a user's own."""

    path: FilePath = SAMPLE
    """Your rows: a file, a folder with its splits, or a data set of the hub. Files: .csv, .tsv,
    .jsonl, .json and .parquet, and for tokens also .conll, .iob2 and .txt (there .tsv, too, has the
    columns of CoNLL); each may be packed (.gz). In CSV and TSV every cell is a text; in TSV a
    double quote is a plain character. docs/chat.md says which columns are read of conversations.
    autolora/sample: review sentences that come with the program."""
    name: Text | None = None
    """A name for the results; null: the file's name."""
    configuration: Text | None = None
    """Where path is a folder or a data set of the hub with several configurations: the name of
    one."""
    data_files: dict[str, Text | list[Text]] | None = None
    """Where path is a folder or a data set of the hub that does not tell its splits: split -> a
    pattern of its files, such as {train: "default/train/*.parquet"}."""
    revision: Text | None = None
    """Revision of the hub's data set (branch, tag or commit); null: the newest. Of a data set that
    a script makes, the hub keeps the rows as parquet in refs/convert/parquet; then give data_files,
    too."""
    train_split: Text | None = None
    """Split that is trained on (D_tr and D_val); it may be an expression such as train[:4000].
    null: train or, without one, the first whose name begins with train."""
    evaluation_split: Annotated[Text | list[Text] | None, EVALUATE] = None
    """Split that is evaluated for metrics.json, or several, each of which is also reported by
    itself; it may be an expression of the package datasets, such as train[4000:6000]. null: test if
    test_path is given, else validation; of a folder or a data set of the hub validation if it
    exists, else test (tokens, e2e, webnlg: test first); without one, some training rows are held
    out (holdout_share)."""
    validation_path: FilePath | None = None
    """Rows to evaluate on, in a file or folder of their own."""
    test_path: FilePath | None = None
    """Rows that are evaluated for metrics.json instead of the validation rows."""
    metrics: Annotated[list[str] | None, Field(min_length=1), EVALUATE] = None
    """Metrics to report. null: accuracy for classes; Spearman and Pearson for numbers; f1,
    precision and recall of entities, in total and by type, for tokens; bleu, nist, meteor, rouge_l,
    cider for e2e; bleu, meteor, ter for webnlg; bleu for pairs; perplexity and token_accuracy for
    other conversations. Also available: matthews and f1_macro for classes, mse for numbers; for all
    conversations those of e2e and exact_match (the share of texts that equal a reference, for short
    answers), for which a text is written for every evaluated row. meteor, rouge_l and cider need
    Java; they and all of webnlg need the packages of `uv run --extra scoring`."""
    evaluation_rows: Annotated[Count | None, EVALUATE] = None
    """Evaluate only this many rows of each evaluation split, evenly spread over it (the same for
    every seed); null: all. pairs, e2e: a row is a source with all its references."""
    max_length: Annotated[int, Field(ge=4, le=LARGEST)] = 128
    """Longest input in tokens (chat: the whole conversation); the end of longer ones is cut off. A
    batch is padded only to its own longest row."""
    train_rows: Count | None = None
    """Use only this many training rows, drawn by seed; null: all."""
    unused_rows: Annotated[CountFromZero, EVALUATE] = 0
    """Also write the losses of at most this many training rows, drawn by seed, that train_rows
    leaves unused. Rows with the same input as a training row are skipped."""
    holdout_share: Share = 0.1
    """Share of the training rows that is held out for evaluation, drawn by seed, if no other rows
    are given for it. Rows of one text (chat: of one prompt) are held out together."""
    validation_share: Share = 0.5
    """Share of the training rows that becomes D_val; the rest is D_tr. Paper: 0.5."""
    split_by: Literal["source", "row"] = "source"
    """What is divided between D_tr and D_val. source: all texts of a source (chat: all
    conversations that begin with one prompt; text and tokens: all rows of one text) stay together,
    so that no source of D_val is trained on in D_tr; row: each row by itself (the paper seems to do
    this)."""
    seed: Seed | None = None
    """Seed for draws from the data: held-out rows, train_rows, D_tr and D_val. null: the run's
    seed; a number lets runs with different seeds use the same rows."""

    @property
    def known_metrics(self) -> tuple[str, ...]:
        """The metrics that `metrics` may name."""
        raise NotImplementedError

    @property
    def reported(self) -> list[str]:
        """The metrics that are reported first, by their plain names (small letters)."""
        return [name.lower().replace("-", "_") for name in self.metrics or self.usual_metrics]

    @property
    def usual_metrics(self) -> tuple[str, ...]:
        """The metrics that are reported unless others are named."""
        return self.known_metrics[:1]

    @property
    def result_name(self) -> str:
        """What the task is called in results."""
        return self.name or short_name(self.path)

    @property
    def evaluated_split(self) -> str:
        """The split that metrics.json reports, where the settings alone say it; of several, with a
        plus between."""
        given = self.evaluation_split
        return (
            "+".join(given)
            if isinstance(given, list)
            else given or ("test" if self.test_path else "validation")
        )

    def file_of(self, split: str) -> str | None:
        """The user's own file with the rows of a split; None if the rows come from elsewhere."""
        return {"validation": self.validation_path, "test": self.test_path}.get(split)

    @property
    def tests_first(self) -> bool:
        """Whether of a data set with both the split test is evaluated, not validation."""
        return self.from_paper

    @property
    def decoding(self) -> Decoding:
        """How the model writes texts, each null filled in."""
        return Decoding()

    @model_validator(mode="after")
    def _known(self) -> Self:
        if strange := [name for name in self.reported if name not in self.known_metrics]:
            raise ValueError(
                f"metrics: {strange[0]!r} is not allowed; allowed: {', '.join(self.known_metrics)}"
            )
        return self


class Table(TaskSettings):
    """A table of texts and labels."""

    type: Literal["text"] = "text"
    text_columns: Annotated[list[Text] | None, Field(min_length=1, max_length=2)] = None
    """The column with the text, or the two columns of a pair; null: the column text or, if there is
    none, sentence."""
    label_column: Text | None = None
    """The column with the label; null: label. Numbers whose names are in the column's type are
    classes by these names."""
    kind: Literal["classification", "regression"] = "classification"
    """Whether labels are classes (two or more, found in the training rows) or numbers."""

    @property
    def known_metrics(self) -> tuple[str, ...]:
        return OF_VALUES if self.kind == "regression" else OF_CLASSES

    @property
    def usual_metrics(self) -> tuple[str, ...]:
        return OF_VALUES[:2] if self.kind == "regression" else OF_CLASSES[:1]


class Tokens(TaskSettings):
    """Your own sentences with a tag (IOB2) on each word."""

    type: Literal["tokens"]
    text_columns: Annotated[list[Text] | None, Field(min_length=1, max_length=1)] = None
    """The column with the list of words; null: tokens. Files of columns (CoNLL) have no names:
    there the word comes first and the tag last."""
    label_column: Text | None = None
    """The column with the list of tags; null: tags or, without one, ner_tags. Tags are texts, or
    numbers whose names are in the column's type."""

    @property
    def known_metrics(self) -> tuple[str, ...]:
        return OF_TAGS

    @property
    def usual_metrics(self) -> tuple[str, ...]:
        return OF_TAGS

    @property
    def tests_first(self) -> bool:
        return True


class Decode(Section):
    """How the model writes texts after the training. null: for e2e and webnlg the values of the
    LoRA paper's code for GPT-2, for all others greedy decoding."""

    num_beams: Width | None = None
    """Number of beams; 1 is greedy. null: 10 for e2e and webnlg, else 1."""
    length_penalty: Annotated[float | None, Field(ge=-10, le=10)] = None
    """A beam's log-probability is divided by its length to this power; above 0 favours long texts.
    null: 0.8 for e2e and webnlg, else 1."""
    no_repeat_ngram_size: CountFromZero | None = None
    """No n-gram of this size occurs twice in a text; 0: no such limit. null: 4 for e2e and webnlg,
    else 0."""
    max_new_tokens: Annotated[int | None, Field(ge=1, le=LARGEST)] = None
    """Longest text in tokens. null: 64 for e2e and webnlg, else 128."""
    batch_size: Annotated[Count, COST] = 8
    """Number of texts that are written at a time, each with all its beams."""


class Chat(TaskSettings):
    """Conversations, whose assistant turns are learned: your own, pairs of a source and a target,
    E2E, WebNLG."""

    type: Literal["chat"]
    format: (
        Literal["messages", "sharegpt", "completion", "alpaca", "text", "pairs", "e2e", "webnlg"]
        | None
    ) = None
    """How a row becomes a conversation (docs/chat.md). pairs: a source and a target, or a list of
    targets; e2e and webnlg: these data sets, with the recipe of LoRA's code for GPT-2. null: the
    first of messages, sharegpt, completion, alpaca and text whose columns are there."""
    text_columns: Annotated[list[Text] | None, Field(min_length=1, max_length=1)] = None
    """pairs: the column with the source; null: source."""
    label_column: Text | None = None
    """pairs: the column with the target or a list of targets; null: target."""
    chat_template: FilePath | None = None
    """The Jinja template that turns a conversation into one text: a file, or plain (the source and
    the token that begins a text, then the answer, as in the LoRA paper's code for GPT-2). null:
    plain for e2e and webnlg, else the model's own. It is saved with the adapter."""
    label_smoothing: ShareFromZero | None = None
    """Share of a token's weight that training spreads over the vocabulary; null: 0.1 for e2e and
    webnlg (as in the LoRA paper's code), else 0."""
    samples: Annotated[CountFromZero, EVALUATE] = 5
    """After the training, write answers to this many of the evaluated conversations, into
    samples.jsonl and the report; 0: none. For metrics of texts (pairs, e2e, webnlg) the answers to
    all of them are written instead."""
    decode: Annotated[Decode, EVALUATE] = Decode()

    evaluation_split: Annotated[Text | None, EVALUATE] = None
    """Split that is evaluated for metrics.json. null: test if test_path is given, else validation;
    of a folder or a data set of the hub validation if it exists, else test, for e2e and webnlg in
    the other order; without one, some training rows are held out (holdout_share)."""

    headless: ClassVar[bool] = True

    @property
    def from_paper(self) -> bool:  # type: ignore[override]
        """As for every task."""
        return self.format in OFFICIAL

    @property
    def of_records(self) -> bool:
        """Whether a row is a source with references, with which a written text is compared."""
        return (
            self.from_paper
            or self.format == "pairs"
            or bool(self.text_columns or self.label_column)
        )

    @property
    def official(self) -> tuple[str, ...]:
        """The metrics of the official scripts that can be reported."""
        return OFFICIAL.get(self.format or "", OFFICIAL["e2e"])

    @property
    def known_metrics(self) -> tuple[str, ...]:
        return (*map(str.lower, self.official), *OF_OWN_TEXTS, *OF_TOKENS)

    @property
    def usual_metrics(self) -> tuple[str, ...]:
        return self.official if self.from_paper else ("bleu",) if self.of_records else OF_TOKENS

    @property
    def asked(self) -> list[str]:
        """The metrics of the official scripts that are reported."""
        return [name for name in self.official if name.lower() in self.reported]

    @property
    def scores_texts(self) -> bool:
        """Whether a text is written for every evaluated row, and scored."""
        return not set(self.reported) <= set(OF_TOKENS)

    @property
    def result_name(self) -> str:
        return self.name or (str(self.format) if self.from_paper else short_name(self.path))

    @property
    def smoothing(self) -> float:
        """The share of label smoothing that training uses."""
        return (
            (0.1 if self.from_paper else 0.0)
            if self.label_smoothing is None
            else self.label_smoothing
        )

    @property
    def decoding(self) -> Decoding:
        """As for every task; the recipe's values must never be the defaults for a user's own rows.
        Source: microsoft/LoRA, examples/NLG."""
        recipe = Decoding(10, 0.8, 4, 64) if self.from_paper else Decoding()
        return recipe._replace(
            **{key: value for key, value in vars(self.decode).items() if value is not None}
        )

    @model_validator(mode="after")
    def _columns_of_pairs(self) -> Self:
        if (self.text_columns or self.label_column) and self.format not in (None, "pairs"):
            raise ValueError(
                f"text_columns: {self.format} has columns of its own; allowed: format pairs"
            )
        return self


AnyTask = Annotated[Table | Tokens | Chat, Field(discriminator="type")]
