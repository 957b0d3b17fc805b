"""The section `task`: what is learned, and from which rows. Each type has the keys that it reads, and its facts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, get_args

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
"""Metrics that a user's own table of generation has beside those of E2E."""
ERRORS = {"mse", "ter", "perplexity"}
"""Metrics of which less is better."""
SPLITS = ("validation", "test")
"""The splits that are evaluated, of the sample and of a user's files."""


def plain_name(metric: str) -> str:
    """A metric's name in small letters, with an underscore for a hyphen."""
    return metric.lower().replace("-", "_")


class Decoding(NamedTuple):
    """How a model writes texts, with every value filled in. The defaults are greedy decoding."""

    num_beams: int = 1
    length_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    max_new_tokens: int = 64
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
    bleu, meteor, ter for webnlg; bleu for your own table of generation; perplexity and token_accuracy for chat. Also
    available: f1_macro for classes, mse for numbers, exact_match (the share of texts that equal a reference, for short
    answers) and nist, meteor, rouge_l, cider for your own table of generation, perplexity and token_accuracy for
    generation, which writes no texts if only these two are asked for. meteor, rouge_l and cider need Java;
    they and all of webnlg need the packages of `uv run --extra scoring`."""
    evaluation_split: Text | None = None
    """Split that is evaluated for metrics.json; not train. null: e2e, webnlg and tokens from the hub or a folder: test
    if it exists, else validation; chat from the hub or a folder: validation if it exists, else test; other data: test
    if test_path is given, else validation."""
    evaluation_rows: Annotated[Count | None, EVALUATE] = None
    """Evaluate only this many rows of each evaluation split, evenly spread over it (the same for every seed); null:
    all. generation: a row is a source with all its references."""
    max_length: Annotated[int, Field(ge=4, le=LARGEST)] = 128
    """Longest input in tokens (generation: source and target together; chat: the whole conversation); longer inputs
    are cut (generation: first the end of the source, then that of the target; chat: as too_long says). A
    batch is padded only to its own longest row."""
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
        """The split that metrics.json reports, where the settings alone say it."""
        return self.evaluation_split or "validation"

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
        if (self.evaluation_split or "").startswith("train"):
            raise ValueError("evaluation_split: its rows are trained on; allowed: another split, such as validation")
        return self


class Sample(TaskSettings):
    """Review sentences that the program makes itself."""

    type: Literal["sample"] = "sample"
    evaluation_split: Literal["validation", "test"] | None = None
    """Split that is evaluated for metrics.json; null: test."""

    @property
    def evaluated_split(self) -> str:
        return self.evaluation_split or "test"


class Glue(TaskSettings):
    """A task of GLUE."""

    type: Literal["glue"]
    glue: Literal["cola", "sst2", "mrpc", "qqp", "mnli", "qnli", "rte", "wnli", "stsb"]
    """Which task of GLUE."""
    path: FilePath = "nyu-mll/glue"
    """Hub name or local folder of GLUE."""
    revision: Text | None = None
    """Revision of the hub's data set (branch, tag or commit); null: the newest."""
    name: Text | None = None
    """A name for the results; null: the task's."""
    evaluation_split: Annotated[Text | None, EVALUATE] = None
    """Split that is evaluated for metrics.json; not train. null: validation (of mnli matched and mismatched)."""

    from_paper: ClassVar[bool] = True

    @property
    def known_metrics(self) -> tuple[str, ...]:
        return OF_VALUES if self.glue == "stsb" else OF_CLASSES

    @model_validator(mode="after")
    def _own_name(self) -> Self:
        others = {*get_args(type(self).model_fields["glue"].annotation)} - {self.glue}
        if self.name in others:
            raise ValueError(f"name: {self.name} is another task of GLUE, and names the results alone; give glue")
        return self

    @property
    def result_name(self) -> str:
        return self.name or self.glue

    @property
    def files(self) -> Mapping[str, str]:
        return {"path": self.path}


class OwnRows(TaskSettings):
    """Rows of the user's own, in files or on the hub."""

    path: FilePath
    """Your rows. text: .csv, .tsv (where a double quote is a plain character, unless it encloses a whole cell), .jsonl
    or .parquet. tokens: .conll, .iob2, .tsv, .txt, .jsonl, .parquet, a folder with such files named train, validation
    and test, or a hub name. chat: conversations as .jsonl, .json (a list of objects, or one object a line), .parquet,
    or .csv and .tsv with columns of texts, a hub name, or a local folder; docs/chat.md says which columns are read.
    Scripts in a hub repository are never run: the rows are read from the hub's own conversion to parquet."""
    name: Text | None = None
    """A name for the results; null: the file's name."""
    validation_path: FilePath | None = None
    """Rows to evaluate on. null: some training rows are held out (holdout_share), unless task.path is a folder or a
    data set of the hub (tokens, chat) that has validation or test rows."""
    test_path: FilePath | None = None
    """Rows that are evaluated for metrics.json instead of the validation rows."""
    holdout_share: Share = 0.1
    """Share of the training rows (generation: of the sources; chat: of the prompts) that is held out for evaluation,
    drawn by seed, if no other rows are given for it. text: at least one row of each class stays in training."""
    split_by: Literal["source", "row"] = "source"
    """What is divided between D_tr and D_val. source: all texts of a source (chat: all conversations that begin with
    one prompt; text and tokens: all rows of one text) stay together, so that no source of D_val is trained on in D_tr;
    row: each row by itself (the paper seems to do this)."""

    on_hub: ClassVar[bool] = False
    """Whether `path` may also name a folder or a data set of the hub."""

    @property
    def result_name(self) -> str:
        return self.name or short_name(self.path)

    @property
    def evaluated_split(self) -> str:
        return self.evaluation_split or ("test" if self.test_path else "validation")

    @property
    def files(self) -> Mapping[str, str]:
        named = {"path": self.path, "validation_path": self.validation_path, "test_path": self.test_path}
        return {key: path for key, path in named.items() if path is not None}

    @property
    def by_source(self) -> bool:
        return self.split_by == "source"

    def missing_split(self, split: str) -> str | None:
        """Why files that are named one by one have no rows of this split; None if they have some."""
        if split not in SPLITS:
            return f"--task.evaluation_split: {split!r} is not allowed; allowed: {', '.join(SPLITS)}"
        return "--task.evaluation_split: 'test' needs --task.test_path" if split not in {
            "validation", *(key.removesuffix("_path") for key in self.files)} else None  # fmt: skip

    @model_validator(mode="after")
    def _has_split(self) -> Self:
        one_by_one = Path(self.path).expanduser().is_file() if self.on_hub else not self.from_paper
        if self.evaluation_split and one_by_one and (message := self.missing_split(self.evaluation_split)):
            raise ValueError(message.removeprefix("--task."))
        return self


class Table(OwnRows):
    """Your own table of texts and labels."""

    type: Literal["text"]
    text_columns: Annotated[list[Text] | None, Field(min_length=1, max_length=2)] = None
    """The column with the text, or the two columns of a pair; null: the column text or, if there is none, sentence."""
    label_column: Text | None = None
    """The column with the label; null: label. The numbers of a .parquet file of datasets are classes by their names in
    the column's type."""
    kind: Literal["classification", "regression"] = "classification"
    """Whether labels are classes (two or more, found in the training rows) or numbers."""

    @property
    def known_metrics(self) -> tuple[str, ...]:
        return OF_VALUES if self.kind == "regression" else OF_CLASSES


class _OnHub(OwnRows):
    """Rows that may be a data set of the hub."""

    revision: Text | None = None
    """Revision of the hub's data set (branch, tag or commit); null: the newest."""
    configuration: Text | None = None
    """Where path is a data set of the hub (chat: or a folder) with several configurations: the name of one."""

    on_hub: ClassVar[bool] = True


class Tokens(_OnHub):
    """Your own sentences with a tag (IOB2) on each word."""

    type: Literal["tokens"]
    text_columns: Annotated[list[Text] | None, Field(min_length=1, max_length=1)] = None
    """The column with the list of words in .jsonl, .parquet and on the hub; null: tokens."""
    label_column: Text | None = None
    """The column with the list of tags; null: tags, or on the hub ner_tags. Tags are texts, or numbers whose names are
    in the column's type or in a label.json beside the file."""

    @property
    def known_metrics(self) -> tuple[str, ...]:
        return OF_TAGS


class Decode(Section):
    """How the model writes texts after the training. null: for e2e and webnlg the values of the LoRA paper's code for
    GPT-2, for your own table greedy decoding."""

    num_beams: Width | None = None
    """Number of beams; 1 is greedy. null: 10 for e2e and webnlg, 1 for your own table."""
    length_penalty: Annotated[float | None, Field(ge=-10, le=10)] = None
    """A beam's log-probability is divided by its length to this power; above 0 favours long texts. null: 0.8 for e2e
    and webnlg, 1 for your own table."""
    no_repeat_ngram_size: CountFromZero | None = None
    """No n-gram of this size occurs twice in a text; 0: no such limit. null: 4 for e2e and webnlg, 0 for your own
    table."""
    max_new_tokens: Annotated[int, Field(ge=1, le=LARGEST)] = 64
    """Longest text in tokens."""
    batch_size: Annotated[Count, COST] = 8
    """Number of texts that are written at a time, each with all its beams."""


class Generation(OwnRows):
    """E2E, WebNLG, or your own table of sources and targets, with a causal language model."""

    type: Literal["generation"]
    benchmark: Literal["e2e", "webnlg"] | None = None
    """e2e, webnlg: these data sets, with the recipe of LoRA's code for GPT-2; null: your own table, in path."""
    path: str = ""
    """Your own table, as for text. With a benchmark: hub name or local folder (for webnlg also one with train.json,
    dev.json and test.json of the LoRA paper's code); unset: the data set on the hub."""
    revision: Text | None = None
    """With a benchmark: revision of the hub's data set (branch, tag or commit); null: the newest."""
    text_columns: Annotated[list[Text] | None, Field(min_length=1, max_length=1)] = None
    """Your own table: the column with the source; null: source."""
    label_column: Text | None = None
    """Your own table: the column with the target or a list of targets; null: target."""
    label_smoothing: ShareFromZero | None = None
    """Share of a target token's weight that training spreads over the vocabulary; null: 0.1 for e2e and webnlg (as in
    the LoRA paper's code), 0 for your own table."""
    prompt: Literal["auto", "chat", "plain"] = "auto"
    """How a source is given to the model. chat: by the model's chat template, the source as the user's turn and the
    target as the assistant's; plain: the source and the token that begins a text (as in the LoRA paper's code for
    GPT-2). auto: plain for e2e and webnlg; for your own table chat if there is a chat template, else plain."""
    chat_template: FilePath | None = None
    """With a chat prompt: a file with the Jinja template that turns a conversation into one text; null: the model's
    own. It is saved with the adapter."""
    decode: Annotated[Decode, EVALUATE] = Decode()

    headless: ClassVar[bool] = True

    @property
    def from_paper(self) -> bool:  # type: ignore[override]
        """As for every task: whether the rows are those of a benchmark."""
        return self.benchmark is not None

    @property
    def known_metrics(self) -> tuple[str, ...]:
        official = map(plain_name, OFFICIAL[self.benchmark or "e2e"])
        return (*official, *(() if self.benchmark else OF_OWN_TEXTS), *OF_TOKENS)

    @property
    def official(self) -> list[str]:
        """The metrics of the official scripts that are reported."""
        known = OFFICIAL[self.benchmark or "e2e"]
        asked = list(map(plain_name, self.metrics or (known if self.benchmark else ["BLEU"])))
        return [name for name in known if plain_name(name) in asked]

    @property
    def result_name(self) -> str:
        return self.name or self.benchmark or short_name(self.path)

    @property
    def files(self) -> Mapping[str, str]:
        return {key: path for key, path in super().files.items() if path}

    @property
    def smoothing(self) -> float:
        return (0.1 if self.benchmark else 0.0) if self.label_smoothing is None else self.label_smoothing

    @property
    def writes_texts(self) -> bool:
        return self.metrics is None or any(plain_name(name) not in OF_TOKENS for name in self.metrics)

    @property
    def decoding(self) -> Decoding:
        """As for every task; the recipe's values must never be the defaults for a user's own table. Source:
        microsoft/LoRA, examples/NLG."""
        recipe = Decoding(num_beams=10, length_penalty=0.8, no_repeat_ngram_size=4) if self.benchmark else Decoding()
        return recipe._replace(**{key: value for key, value in vars(self.decode).items() if value is not None})

    @model_validator(mode="after")
    def _own_table_or_benchmark(self) -> Self:
        if not (self.path or self.benchmark):
            raise ValueError("path: give your own table, or --task.benchmark")
        of_table: list[Any] = [self.validation_path, self.test_path, self.text_columns, self.label_column]
        if self.benchmark and any(of_table):
            raise ValueError(f"benchmark: {self.benchmark} has its own splits and columns")
        return self


class ChatDecode(Section):
    """How the model writes samples; they are decoded greedily, one at a time."""

    max_new_tokens: Annotated[int, Field(ge=1, le=LARGEST)] = 128
    """Longest text in tokens."""


class Chat(_OnHub):
    """Your own conversations, whose assistant turns are learned."""

    type: Literal["chat"]
    too_long: Literal["cut", "drop"] = "cut"
    """What happens to a row longer than max_length. cut: its end is cut off, and the row is dropped if no token of an
    answer is left; drop: the row is dropped. The program logs how many rows are cut or dropped."""
    bad_rows: Literal["refuse", "drop"] = "refuse"
    """What happens if rows cannot be learned (an empty answer, a tool's turn, ...). refuse: the run ends, and its
    message counts them and names the first five; drop: they are left out, with a warning that does so."""
    chat_template: FilePath | None = None
    """A file with the Jinja template that turns a conversation into one text; null: the model's own. It is saved with
    the adapter."""
    samples: Annotated[CountFromZero, EVALUATE] = 5
    """After the training, write answers to this many of the evaluated conversations, greedily, into samples.jsonl and
    the report; 0: none."""
    decode: Annotated[ChatDecode, EVALUATE] = ChatDecode()

    headless: ClassVar[bool] = True

    @property
    def known_metrics(self) -> tuple[str, ...]:
        return OF_TOKENS

    @property
    def writes_texts(self) -> bool:
        return self.samples > 0

    @property
    def decoding(self) -> Decoding:
        return Decoding(max_new_tokens=self.decode.max_new_tokens, batch_size=1)


AnyTask = Annotated[Sample | Table | Tokens | Chat | Generation | Glue, Field(discriminator="type")]
