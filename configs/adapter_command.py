"""The command lines `run.py measure ADAPTER --data FILE` and `run.py cut ADAPTER OUT --data FILE
--keep 0.99`."""

from collections.abc import Sequence
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.layers import flat
from autolora.configs.parser import Parser, options, value_of
from autolora.configs.requests import AdapterRequest

WORDS = ("measure", "cut")
_ALSO = ("device", "precision", "seed")
"""Keys of a run that these commands take beside the sections task and model."""
_INSTEAD = {
    "task.path": "--data",
    "task.validation_path": "--data",
    "task.train_split": "--split",
    "task.evaluation_split": "--split",
    "task.train_rows": "--rows",
    "task.evaluation_rows": "--rows",
    "task.test_path": "--test",
}
"""Keys of a run -> the option that says the same."""
_OF_TRAINING = tuple(
    f"task.{key}" for key in ("unused_rows", "holdout_share", "validation_share", "split_by")
)
"""Keys that divide rows between a training and others."""


def parse_adapter_command(argv: Sequence[str]) -> AdapterRequest:
    """What a command line asks for whose first word is in WORDS. Raises UserError."""
    parser = _parser(argv[0])
    given, rest = parser.parse_known_args(argv[1:])
    asked = vars(given)
    size: dict[str, Any] = {}
    for key in ("keep", "rank", "parameters", "max_rank"):
        if key in asked:
            size[key] = asked.pop(key)
    return AdapterRequest(cuts=argv[0] == "cut", settings=_settings(rest), size=size, **asked)


def _parser(word: str) -> Parser:
    what = "measure an adapter on rows" if word == "measure" else "cut an adapter to fewer ranks"
    parser = Parser(
        prog=f"run.py {word}",
        allow_abbrev=False,
        description=f"{what[0].upper()}{what[1:]}.",
        epilog="Also --task.KEY (such as --task.type text, tokens, chat), --model.KEY, --device, "
        "--precision and --seed, as for a run.",
    )
    parser.add_argument("adapter", help="folder or hub name of an adapter of PEFT's type LORA")
    if word == "cut":
        parser.add_argument("out", help="folder for the smaller adapter")
    parser.add_argument(
        "--data",
        required=True,
        help="rows that the adapter was NOT trained on: what --task.path takes",
    )
    parser.add_argument(
        "--split",
        help="rows of a data set with splits, such as validation or 'test[:500]' (unset: "
        "validation, else test, else the only split)",
    )
    parser.add_argument("--base", help="base model (unset: the one that adapter_config.json names)")
    parser.add_argument(
        "--rows", type=int, default=2000, help="at most so many rows, drawn by seed (2000)"
    )
    parser.add_argument(
        "--out" if word == "measure" else "--measured",
        dest="folder",
        help="folder for measure.json, tables and curve.png (unset: ADAPTER's name with -measured)",
    )
    if word == "cut":
        size = parser.add_mutually_exclusive_group(required=True)
        size.add_argument(
            "--keep",
            type=float,
            help="the smallest rank that keeps this part of the gain, such as 0.99",
        )
        size.add_argument("--rank", type=int, help="this rank in every layer")
        size.add_argument(
            "--parameters", type=int, help="unequal ranks within so many LoRA parameters"
        )
        parser.add_argument("--max_rank", type=int, help="no layer gets more (unset: no limit)")
        parser.add_argument("--test", help="rows on which the written adapter is evaluated")
        parser.add_argument(
            "--padded", action="store_true", help="also OUT/padded, of one rank in every layer"
        )
    return parser


def _settings(words: Sequence[str]) -> dict[str, Any]:
    """The keys of a run among the words of a command line. Raises UserError for anything else."""
    found = flat((key, value_of(word, f"--{key}")) for key, word in options(words))
    for key in found:
        if key in _INSTEAD:
            raise UserError(f"--{key}: here {_INSTEAD[key]} says it")
        if key.partition(".")[0] not in ("task", "model", *_ALSO) or key in _OF_TRAINING:
            raise UserError(f"--{key}: does nothing here, where nothing is trained")
    return found
