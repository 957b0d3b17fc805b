"""The sections `task` and `decode` of a configuration."""

from dataclasses import dataclass
from typing import Literal

from autolora.configs import ranges


@dataclass(frozen=True)
class TaskConfig:
    """The task and its data. A text after "TYPE:" is about that type of task alone."""

    type: Literal["sample", "glue", "text", "tokens", "generation", "chat"] = "sample"
    """sample: sentences that the program makes itself; glue: a GLUE task; text: your own table of texts and labels;
    tokens: your own sentences with a tag (IOB2) on each word; generation: E2E, WebNLG, or your own table of sources
    and targets, with a causal language model; chat: your own conversations, whose assistant turns are learned."""
    path: ranges.FilePathOrNull = None
    """glue: hub name or local folder (null: nyu-mll/glue). text: training rows as .csv, .tsv (where a double quote
    is a plain character, unless it encloses a whole cell), .jsonl or .parquet. tokens: .conll, .iob2, .tsv, .txt,
    .jsonl, .parquet, a folder with such files named train, validation and test, or a hub name. generation: for e2e
    and webnlg a hub name or local folder (for webnlg also one with train.json, dev.json and test.json of the LoRA
    paper's code; null: the data set on the hub), for any other name a table as for text. chat: conversations as
    .jsonl, .json (a list of objects, or one object a line), .parquet, or .csv and .tsv with columns of texts, a hub
    name, or a local folder; docs/chat.md says which columns are read. Scripts in a hub repository are never run: the
    rows are read from the hub's own conversion to parquet."""
    revision: str | None = None
    """glue, tokens, generation (e2e, webnlg), chat, if path is a hub name: its revision (branch, tag or commit); null:
    the newest."""
    name: str | None = None
    """glue: which task (sst2, cola, mrpc, ...). text, tokens, chat: a name for the results; null: the file's name.
    tokens, chat: where path is a data set of the hub (chat: or a folder) with several configurations, the name of one
    chooses it. generation: e2e or webnlg; any other name means your own table and is a name for the results."""
    validation_path: ranges.FilePathOrNull = None
    """text, tokens, generation (own table), chat: rows to evaluate on. null: some training rows are held out
    (holdout_share), unless task.path is a folder or a data set of the hub (tokens, chat) that has validation or test
    rows."""
    test_path: ranges.FilePathOrNull = None
    """text, tokens, generation (own table), chat: rows that are evaluated for metrics.json instead of the validation
    rows."""
    holdout_share: ranges.Share = 0.1
    """text, tokens, generation (own table), chat: share of the training rows (generation: of the sources; chat: of the
    prompts) that is held out for evaluation, drawn by seed, if no other rows are given for it. text: at least one row
    of each class stays in training."""
    text_columns: ranges.Columns = None
    """text: the column with the text, or the two columns of a pair; null: the column text or, if there is none,
    sentence. tokens: the column with the list of words in .jsonl, .parquet and on the hub; null: tokens. generation:
    the column with the source; null: source."""
    label_column: str | None = None
    """text: the column with the label; null: label; the numbers of a .parquet file of datasets are classes by their
    names in the column's type. tokens: the column with the list of tags; null: tags, or on the hub ner_tags; tags are
    texts, or numbers whose names are in the column's type or in a label.json beside the file. generation: the column
    with the target or a list of targets; null: target."""
    kind: Literal["classification", "regression"] = "classification"
    """text: whether labels are classes (two or more, found in the training rows) or numbers."""
    metrics: ranges.Metrics = None
    """Metrics to report. null: accuracy for classes; Matthews for CoLA; Spearman and Pearson for numbers; f1,
    precision and recall of entities, in total and by type, for tokens; bleu, nist, meteor, rouge_l, cider for e2e;
    bleu, meteor, ter for webnlg; bleu for your own table of generation; perplexity and token_accuracy for chat. Also
    available: f1_macro for classes, mse for numbers, exact_match (the share of texts that equal a reference, for short
    answers) and nist, meteor, rouge_l, cider for your own table of generation, perplexity and token_accuracy for
    generation, which writes no texts if only these two are asked for. meteor, rouge_l and cider need Java."""
    evaluation_split: str | None = None
    """Split that is evaluated for metrics.json; not train. null: validation for glue; test for the sample. e2e, webnlg
    and tokens from the hub or a folder: test if it exists, else validation; chat from the hub or a folder: validation
    if it exists, else test. Other data: test if test_path is given, else validation."""
    validation_share: ranges.Share = 0.5
    """Share of the training rows that becomes D_val; the rest is D_tr. Paper: 0.5."""
    split_by: Literal["source", "row"] = "source"
    """What is divided between D_tr and D_val. source: all texts of a source (chat: all conversations that begin with
    one prompt; text and tokens: all rows of one text) stay together, so that no source of D_val is trained on in D_tr;
    row: each row by itself (the paper seems to do this). glue and the sample are always divided by row."""
    max_length: ranges.Tokens = 128
    """Longest input in tokens (generation: source and target together; chat: the whole conversation); longer inputs
    are cut (generation: first the end of the source, then that of the target; chat: as too_long says). A
    batch is padded only to its own longest row."""
    too_long: Literal["cut", "drop"] = "cut"
    """chat: what happens to a row longer than max_length. cut: its end is cut off, and the row is dropped if no token
    of an answer is left; drop: the row is dropped. The program logs how many rows are cut or dropped."""
    bad_rows: Literal["refuse", "drop"] = "refuse"
    """chat: what happens if rows cannot be learned (an empty answer, a tool's turn, ...). refuse: the run ends, and
    its message counts them and names the first five; drop: they are left out, with a warning that does so."""
    seed: ranges.SeedOrNull = None
    """Seed for draws from the data: held-out rows, train_rows, D_tr and D_val. null: the run's seed; a number lets
    runs with different seeds use the same rows."""
    train_rows: ranges.CountOrNull = None
    """Use only this many training rows, drawn by seed; null: all."""
    unused_rows: ranges.CountFromZero = 0
    """With retrain.row_losses: also write the losses of at most this many training rows, drawn by seed, that
    train_rows leaves unused. Rows with the same input as a training row are skipped."""
    evaluation_rows: ranges.CountOrNull = None
    """Evaluate only this many rows of each evaluation split, evenly spread over it (the same for every seed); null:
    all. generation: a row is a source with all its references."""
    label_smoothing: ranges.ShareFromZeroOrNull = None
    """generation: share of a target token's weight that training spreads over the vocabulary; null: 0.1 for e2e and
    webnlg (as in the LoRA paper's code), 0 for your own table."""
    prompt: Literal["auto", "chat", "plain"] = "auto"
    """generation: how a source is given to the model. chat: by the model's chat template, the source as the user's
    turn and the target as the assistant's; plain: the source and the token that begins a text (as in the LoRA paper's
    code for GPT-2). auto: plain for e2e and webnlg; for your own table chat if there is a chat template, else
    plain."""
    chat_template: ranges.FilePathOrNull = None
    """chat, and generation with a chat prompt: a file with the Jinja template that turns a conversation into one text;
    null: the model's own. It is saved with the adapter."""
    samples: ranges.CountFromZero = 5
    """chat: after the training, write answers to this many of the evaluated conversations, greedily, into
    samples.jsonl and the report; 0: none."""


@dataclass(frozen=True)
class DecodeSettings:
    """Tasks generation and chat: how the model writes texts after the training.

    null: for e2e and webnlg the values of the LoRA paper's code for GPT-2, for everything else greedy decoding. The
    samples of chat are always decoded greedily, one at a time."""

    num_beams: ranges.WidthOrNull = None
    """generation: number of beams; 1 is greedy. null: 10 for e2e and webnlg, 1 for your own table."""
    length_penalty: ranges.PowerOrNull = None
    """generation: a beam's log-probability is divided by its length to this power; above 0 favours long texts. null:
    0.8 for e2e and webnlg, 1 for your own table."""
    no_repeat_ngram_size: ranges.CountFromZeroOrNull = None
    """generation: no n-gram of this size occurs twice in a text; 0: no such limit. null: 4 for e2e and webnlg, 0 for
    your own table."""
    max_new_tokens: ranges.LengthOrNull = None
    """Longest text in tokens; null: 64 for generation, 128 for chat."""
    batch_size: ranges.Count = 8
    """generation: number of texts that are written at a time, each with all its beams."""
