"""The sections `task` and `decode` of a configuration."""

from dataclasses import dataclass
from typing import Literal

from configs import ranges


@dataclass(frozen=True)
class TaskConfig:
    """What is learned, and from which data."""

    type: Literal["sample", "glue", "text", "tokens", "generation", "chat"] = "sample"
    """sample: sentences that the program makes itself; glue: a GLUE task; text: your own table of texts and labels;
    tokens: your own sentences with a tag (IOB2) on each word; generation: E2E, WebNLG, or your own table of sources
    and targets, with a causal language model; chat: your own conversations, whose assistant turns are learned."""
    path: ranges.FilePathOrNull = None
    """glue: hub name or local folder (null: nyu-mll/glue). text: training rows as .csv, .tsv (a double quote there is
    a plain character, unless it encloses a whole cell), .jsonl or .parquet. tokens: as .conll, .iob2, .tsv, .txt,
    .jsonl, .parquet, a folder with train, validation and test of these, or a hub name. generation: hub name or local
    folder for e2e and webnlg (null: the hub's; webnlg: also LoRA's train.json, dev.json and test.json), else a table
    as for text. chat: conversations as .jsonl, .json (a list of objects) or .parquet, else a hub name or a local
    folder; docs/chat.md says which columns are read. A repository of the hub that is a script is never run: its rows
    are read from the hub's own conversion to parquet."""
    revision: str | None = None
    """glue, tokens, generation (e2e, webnlg), chat, where path is a hub name: its revision (branch, tag or commit);
    null takes the newest."""
    name: str | None = None
    """glue: which task (sst2, cola, mrpc, ...). text, tokens: a name for the results; null takes the file's name.
    generation: e2e or webnlg; any other name is your own table, as for chat."""
    validation_path: ranges.FilePathOrNull = None
    """text, tokens, generation (own table), chat: rows to evaluate on; null holds out training rows (holdout_share;
    chat from the hub: unless it has a split validation or test)."""
    test_path: ranges.FilePathOrNull = None
    """text, tokens, generation (own table), chat: rows that metrics.json reports instead of the validation rows."""
    holdout_share: ranges.Share = 0.1
    """text, tokens, generation (own table), chat: share of the training rows (generation: of the sources; chat: of the
    prompts) kept for evaluation, drawn by seed, when no other rows are given for it. text: a row of each class stays
    in training."""
    text_columns: ranges.Columns = None
    """text: the column with the text, or the two columns of a pair; null: text, else sentence. tokens: the column with
    the list of words in .jsonl, .parquet and on the hub; null: tokens. generation: the column with the source; null:
    source."""
    label_column: str | None = None
    """text: the column with the label; null: label. tokens: that with the list of tags, which are
    texts, or numbers whose names the column itself or a label.json beside the file has; null: tags, or on the hub
    ner_tags.
    generation: that with the target, or a list of targets; null: target."""
    kind: Literal["classification", "regression"] = "classification"
    """text: classes (found in the training rows, two or more) or a number."""
    metrics: ranges.Metrics = None
    """What to report; null: the task's own (accuracy; Matthews for CoLA; Spearman and Pearson for numbers; f1,
    precision and recall of entities, in all and by type, for tokens; bleu, nist, meteor, rouge_l, cider for e2e; bleu,
    meteor, ter for webnlg; bleu for another table of sources and targets; perplexity and token_accuracy for chat, and
    beside the others for generation, which writes no texts where only these are asked for). Also there: f1_macro for
    classes, mse for numbers. meteor, rouge_l and cider need Java."""
    evaluation_split: str | None = None
    """Split that metrics.json reports; null: validation for glue; test for the sample, and where there is one for e2e,
    webnlg and tokens from the hub; your own data: test where test_path is given, else validation."""
    validation_share: ranges.Share = 0.5
    """Share of the training rows that becomes D_val; the rest is D_tr. Paper: 0.5."""
    split_by: Literal["source", "row"] = "source"
    """generation, chat: what is divided between D_tr and D_val. source: all texts of a source (chat: all answers to a
    prompt) stay together, so that D_val asks for sources that were not trained on; row: each text by itself (paper).
    Other tasks always go by row."""
    max_length: ranges.Tokens = 128
    """Longest input in tokens (generation: source and target together; chat: the whole conversation); longer ones are
    cut (chat: as too_long says). Batches are padded to their own longest row only."""
    too_long: Literal["cut", "drop"] = "cut"
    """chat: what becomes of a row beyond max_length. cut: its end is cut off, and it is dropped where no token of an
    answer is left; drop: it is dropped. How many there are is said."""
    seed: ranges.SeedOrNull = None
    """Seed of what is drawn from the data: held-out rows, train_rows, D_tr and D_val. null: that of the run; a number
    lets runs of several seeds share the same rows."""
    train_rows: ranges.CountOrNull = None
    """Use only this many training rows (drawn by seed); null uses all."""
    unused_rows: ranges.CountFromZero = 0
    """retrain.row_losses: training rows that train_rows leaves unused and whose losses are written too, at most (drawn
    by seed). Rows whose inputs are also those of a training row are left out."""
    evaluation_rows: ranges.CountOrNull = None
    """Evaluate only this many rows of each evaluation split, evenly spread over it (the same for every seed); null
    uses all. generation: a row is a source with all its references."""
    label_smoothing: ranges.ShareFromZeroOrNull = None
    """generation: share of a target token's weight that training spreads over the vocabulary; null: 0.1 for e2e and
    webnlg (LoRA's recipe), 0 for your own table."""
    prompt: Literal["auto", "chat", "plain"] = "auto"
    """generation: how a source is put to the model. chat: as the user's turn of the model's chat template, the target
    as the assistant's; plain: the source and the beginning of text (LoRA's recipe for GPT-2). auto: plain for e2e and
    webnlg, for your own table chat where there is a chat template."""
    chat_template: ranges.FilePathOrNull = None
    """chat, generation with a chat prompt: a file with the Jinja template that makes one text of a conversation; null:
    the model's own. The adapter keeps it."""
    samples: ranges.CountFromZero = 5
    """chat: so many answers of the evaluated conversations are written greedily after the training, into samples.jsonl
    and the report; 0 writes none."""


@dataclass(frozen=True)
class DecodeSettings:
    """Tasks generation and chat: how texts are written after the training. A null is the value of LoRA's recipe for
    GPT-2 for e2e and webnlg, else that of a greedy text. The samples of chat are greedy, one at a time."""

    num_beams: ranges.WidthOrNull = None
    """generation: beams; 1 is greedy. null: 10 for e2e and webnlg, 1 for your own table."""
    length_penalty: ranges.PowerOrNull = None
    """generation: a beam's log-probability is divided by its length to this power; above 0 favours long texts. null:
    0.8 for e2e and webnlg, 1 for your own table."""
    no_repeat_ngram_size: ranges.CountFromZeroOrNull = None
    """generation: no n-gram of this size comes twice in a text; 0 allows it. null: 4 for e2e and webnlg, 0 for your
    own table."""
    max_new_tokens: ranges.LengthOrNull = None
    """Longest text in tokens; null: 64, for chat 128."""
    batch_size: ranges.Count = 8
    """generation: texts at a time, each with all its beams."""
