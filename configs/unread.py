"""A table of the keys that do nothing under certain other settings; tell_unread.py warns of them or refuses them.

If no row of TABLE applies to a key, some stage of the run reads it. tests/configs/test_unread.py lists the keys that
are always read, and compares the table with what the stages and methods declare.
"""

from collections.abc import Callable
from typing import NamedTuple

from autolora.configs.conditions import BUDGETED, divides, fixed_data, has_template, no_study, reads_hub, uses_r
from autolora.configs.facts import (
    CHOOSING_RANKS,
    FROM_COMPONENTS,
    WITHOUT_LORA,
    evaluates_base,
    moves_alpha,
    only_alpha_is_1,
    reads,
    trains_all,
    trains_blocks,
)
from autolora.configs.hypergradients import BUILT_IN
from autolora.configs.methods import FACTS, READ_BY_SOME, readers
from autolora.configs.own_class import is_own
from autolora.configs.places import is_local
from autolora.configs.recipe import decoding, evaluation_path, evaluation_split, writes_texts
from autolora.configs.schema import RunConfig


class Row(NamedTuple):
    """Keys (or whole sections) that nothing reads if `unread` returns True.

    `why`: the reason, for the user; `{c...}` is filled in from the configuration. `instead`: what the user should do.
    On the command line, a key is refused if its row has `instead`: another setting overrules the key, or the data that
    it names would not be read. A key on an axis of a study is refused everywhere, as its values would make equal runs.
    All other keys, and other keys in a file (which may serve other runs), give a warning.
    """

    keys: tuple[str, ...]
    unread: Callable[[RunConfig], bool]
    why: str
    instead: str = ""

    def covers(self, key: str) -> bool:
        """Whether the row has this key, or a section with this key."""
        return any(key == name or key.startswith(f"{name}.") for name in self.keys)


_METHOD = "with --method {c.method}"
_TYPE = "with --hypergradient.type {c.hypergradient.type}"
_TASK = "with --task.type {c.task.type}"
_ONE = "with --lora.k 1 and --search.constraint softmax, where alpha is always 1"
_COLUMNS = ("task.text_columns", "task.label_column")
_FILES = ("task.validation_path", "task.test_path", "task.holdout_share")


def _read_by_some(key: str) -> Row:
    """The row of a key, or section, that only some methods read."""
    *others, last = readers(key)
    names = f"{', '.join(others)} and {last}" if others else last
    return Row((key,), lambda c: key not in FACTS[c.method].reads, f"{_METHOD}: it is read only for {names}")


# The reason comes from the first row that has the key and whose `unread` returns True.
TABLE: tuple[Row, ...] = (
    Row(
        ("model.gradient_checkpointing",), lambda c: not trains_blocks(c),
        f"{_METHOD}, which trains nothing inside the blocks",
    ),
    Row(
        ("model.revision",), lambda c: is_local(c.model.name),
        "with --model.name {c.model.name}, which is not on the hub",
    ),
    Row(("task.revision",), lambda c: not reads_hub(c), "with rows that do not come from the hub"),
    Row(
        ("task.path", "task.name", *_FILES, *_COLUMNS, "task.kind"), lambda c: c.task.type == "sample",
        f"{_TASK}, whose sentences the program makes itself", "leave it out, or give the --task.type of your data",
    ),
    Row(
        (*_FILES, *_COLUMNS), fixed_data,
        f"{_TASK} and --task.name {{c.task.name}}, whose splits and columns are fixed",
        "leave it out, or give another --task.type or --task.name for your own table",
    ),
    Row(
        _COLUMNS, lambda c: c.task.type == "chat", f"{_TASK}, whose columns have fixed names",
        "rename the columns as docs/chat.md says",
    ),
    Row(("task.kind",), lambda c: c.task.type != "text", f"{_TASK}: it is read only for --task.type text"),
    Row(
        ("task.validation_path",), lambda c: evaluation_split(c.task) != "validation",
        "as the rows of --task.test_path, or of --task.evaluation_split, are evaluated",
    ),
    Row(
        ("task.test_path",), lambda c: evaluation_split(c.task) != "test",
        "with --task.evaluation_split {c.task.evaluation_split}, whose rows are evaluated instead",
    ),
    Row(
        ("task.holdout_share",), lambda c: evaluation_path(c.task, evaluation_split(c.task)) is not None,
        "with --task.validation_path or --task.test_path, whose rows are evaluated",
    ),
    Row(
        ("task.validation_share",), lambda c: not divides(c),
        f"{_METHOD}, which has no D_val: it trains on all training rows",
    ),
    Row(
        ("task.split_by",), lambda c: c.task.type in ("glue", "sample") or not divides(c),
        "as it is read only if a method divides the rows of text, tokens, generation or chat into D_tr and D_val",
    ),
    Row(
        (
            "retrain.epochs", "retrain.max_steps", "retrain.learning_rate", "retrain.learning_rates",
            "retrain.batch_size", "retrain.gradient_accumulation", "retrain.weight_decay", "retrain.warmup_ratio",
            "retrain.scheduler", "retrain.gradient_clipping", "retrain.checkpoint_every", "task.label_smoothing",
            "export.merged",
        ),
        evaluates_base, f"{_METHOD} and {_TASK}, where nothing is trained: only the base model is evaluated",
    ),
    Row(("task.label_smoothing",), lambda c: c.task.type != "generation", f"{_TASK}: it is read only for generation"),
    Row(
        ("lora.target_modules", "lora.k", "lora.lora_alpha", "lora.dropout", "retrain.scale"),
        lambda c: c.method in WITHOUT_LORA, f"{_METHOD}, which has no LoRA",
    ),
    Row(
        ("lora.target_modules", "lora.k"), lambda c: FACTS[c.method].at_given_ranks,
        f"{_METHOD}, as the file in --lora.ranks_from has the layers and k",
    ),
    # Methods without a budget take their ranks from lora.r alone, so that k serves only for the scale.
    Row(
        ("lora.k",),
        lambda c: (
            uses_r(c)
            and c.method not in BUDGETED
            and c.retrain.scale in ("fixed", "rslora")
            and c.retrain.init == "scratch"
        ),
        f"{_METHOD} and --retrain.scale {{c.retrain.scale}}: it is read only for the scales mean_rank and component",
    ),
    Row(("lora.modules_to_save",), trains_all, f"{_METHOD}, which trains and saves all modules"),
    Row(
        ("lora.r", "lora.budget"), lambda c: c.method == "lora_random" and c.lora.ranks_from is not None,
        f"{_METHOD} beside --lora.ranks_from, which gives the number of parameters",
    ),
    Row(
        ("lora.r",), lambda c: c.method in BUDGETED and not uses_r(c),
        f"{_METHOD} beside --lora.budget, which gives the number of parameters",
    ),
    *map(_read_by_some, READ_BY_SOME),
    Row(("verdict",), lambda c: True, "without --stage verdict"),
    Row(("task.unused_rows",), lambda c: not c.retrain.row_losses, "without --retrain.row_losses true"),
    Row(
        ("task.unused_rows",), lambda c: c.task.train_rows is None,
        "without --task.train_rows, as all training rows are used",
    ),
    Row(
        ("search", "hypergradient", "answer"), lambda c: c.method != "autolora",
        f"{_METHOD}, which has no search by gradients",
    ),
    Row(
        ("retrain.init", "retrain.init_from"), lambda c: c.method not in {"autolora", *FROM_COMPONENTS},
        f"{_METHOD}, which cannot start from searched components",
    ),
    Row(
        ("retrain.init_from",), lambda c: c.method == "autolora",
        f"{_METHOD}, which starts from its own search; --answer.from copies the search of another run",
    ),
    Row(("retrain.init_from",), lambda c: c.retrain.init == "scratch", "without --retrain.init search"),
    Row(("search.scale",), lambda c: c.search.constraint == "none",
        "with --search.constraint none, where alpha starts at 1, so that both scales give the same gates"),
    Row(("search.scale",), only_alpha_is_1, _ONE),
    # Not for type none, which saves the outer steps, nor beside a comparison, which evaluates all types.
    Row(
        ("hypergradient", "search.selection_learning_rate"),
        lambda c: only_alpha_is_1(c) and moves_alpha(c) and not c.study.probe.steps,
        f"{_ONE} (--hypergradient.type none saves the outer steps)",
    ),
    Row(
        ("answer.rows", "answer.curve_ranks", "answer.curve_budgets", "study.probe"),
        lambda c: c.answer.from_run is not None,
        "with --answer.from, which copies another run's search and its measurements", "leave it out, or search again",
    ),
    Row(
        ("answer.budget",), lambda c: c.answer.rule == "threshold",
        "with --answer.rule threshold, which has no budget", "give --answer.rule shares or size, or leave it out",
    ),
    Row(
        ("answer.tolerance", "answer.curve_ranks", "answer.curve_budgets"),
        lambda c: c.answer.rows == 0 and c.answer.from_run is None,
        "with --answer.rows 0, which measures nothing",
    ),
    Row(
        ("search.patience", "search.check_every"), lambda c: c.answer.rule != "threshold",
        "with --answer.rule {c.answer.rule}: only with rule threshold a search stops early",
    ),
    Row(
        ("search.selection_learning_rate", "search.unroll_steps", "hypergradient.eta"), lambda c: not moves_alpha(c),
        f"{_TYPE}, which takes no outer step",
    ),
    Row(
        ("search.check_every", "search.patience"), lambda c: not moves_alpha(c),
        f"{_TYPE}, which moves no alpha: the search takes all its steps",
    ),
    Row(
        ("search.check_every",), lambda c: c.search.patience == 0,
        "with --search.patience 0, as the search then never stops early",
    ),
    Row(
        ("hypergradient.eta",), lambda c: not reads(c, "eta"),
        f"{_TYPE}, which means eta = 0",
    ),
    Row(
        ("hypergradient.radius",), lambda c: not reads(c, "radius") and not c.study.probe.steps,
        f"{_TYPE}, which takes no finite difference",
    ),
    Row(
        ("hypergradient.terms",), lambda c: not reads(c, "terms") and not c.study.probe.steps,
        f"{_TYPE}: it is read only for {' and '.join(name for name, one in BUILT_IN.items() if 'terms' in one.reads)}",
    ),
    Row(
        ("hypergradient.options",), lambda c: not is_own(c.hypergradient.type),
        f"{_TYPE}: it is read only for FILE.py:CLASS",
    ),
    Row(
        ("retrain.epochs",), lambda c: c.retrain.max_steps is not None,
        "beside retrain.max_steps {c.retrain.max_steps}, which overrules it",
        "leave it out, or give --retrain.max_steps null",
    ),
    # Methods that choose ranks train their trials at learning_rate, before they try learning_rates.
    Row(
        ("retrain.learning_rate",), lambda c: bool(c.retrain.learning_rates) and c.method not in CHOOSING_RANKS,
        "beside retrain.learning_rates {c.retrain.learning_rates}, of which one is chosen",
        'leave it out, or give --retrain.learning_rates "[]"',
    ),
    Row(("task.prompt",), lambda c: c.task.type != "generation", f"{_TASK}: it is read only for generation"),
    Row(
        ("task.chat_template",), lambda c: c.task.type not in ("generation", "chat"),
        f"{_TASK}: it is read only for chat and generation",
    ),
    Row(
        ("task.chat_template",), lambda c: not has_template(c),
        f"{_TASK} and --task.prompt {{c.task.prompt}}, as the prompt then is plain",
        "leave it out, or give --task.prompt chat",
    ),
    Row(
        ("task.samples", "task.too_long", "task.bad_rows"), lambda c: c.task.type != "chat",
        f"{_TASK}: it is read only for chat",
    ),
    Row(
        ("decode.num_beams", "decode.length_penalty", "decode.no_repeat_ngram_size", "decode.batch_size"),
        lambda c: c.task.type == "chat", f"{_TASK}, whose samples are greedy, one at a time",
    ),
    Row(
        ("decode",), lambda c: c.task.type == "chat" and not writes_texts(c.task),
        f"{_TASK} and --task.samples 0, as no text is written then",
    ),
    Row(
        ("decode",), lambda c: c.task.type == "generation" and not writes_texts(c.task),
        f"{_TASK} and --task.metrics {{c.task.metrics}}, which need no written text",
    ),
    Row(("decode",), lambda c: not writes_texts(c.task), f"{_TASK}: it is read only for generation and chat"),
    Row(("decode.length_penalty",), lambda c: decoding(c).num_beams == 1, "with one beam (decode.num_beams)"),
    Row(("export.merged",), lambda c: FACTS[c.method].merged, f"{_METHOD}, which always writes merged/"),
    Row(
        ("tracking.project", "tracking.entity", "tracking.group", "tracking.artifacts"),
        lambda c: c.tracking.wandb == "disabled", "with --tracking.wandb disabled",
    ),
    Row(
        (
            "study.where", "study.exclude", "study.sweep_once", "study.reference", "study.launcher", "study.ray",
            "study.probe",
        ),
        no_study, "without --study.axes or --study.variants, which make a study",
    ),
    Row(
        ("study.sweep_once",), lambda c: not c.retrain.learning_rates or len(c.study.axes.get("seed", [])) < 2,
        "without several retrain.learning_rates and several values of seed in study.axes",
    ),
    Row(("study.ray",), lambda c: c.study.launcher != "ray", "without --study.launcher ray"),
    Row(
        ("study.probe.etas", "study.probe.timed_steps"), lambda c: not c.study.probe.steps,
        "without --study.probe.steps, as no approximations are compared",
    ),
)  # fmt: skip


def reason(key: str, config: RunConfig) -> Row | None:
    """The row that says why nothing reads this key in a run; None if it is read."""
    return next((row for row in TABLE if row.covers(key) and row.unread(config)), None)
