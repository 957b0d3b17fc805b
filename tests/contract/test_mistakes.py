"""The usual mistakes, the whole table: one line that names what is wrong, exit code 2, no finished
result changed.

No issue makes this table longer. Each mistake is made twice: under a new name, and with --overwrite
over a finished run, which afterwards is as it was.
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest

from tests.contract.conftest import Finished, Tiny
from tests.contract.inputs import options
from tests.contract.program import command, refused, succeed
from tests.contract.readers import everything, read


@dataclass(frozen=True)
class Mistake:
    """Words of a command line, in which {here} stands for the test's folder; what the line must
    have; files beside."""

    words: tuple[str, ...]
    named: tuple[str, ...]
    files: dict[str, str] = field(default_factory=dict)


ROWS = "text,label\n" + "the film is dull,bad\nour room is clean,good\n" * 6
TEXT = ("--task.type", "text", "--task.train_rows", "null", "--task.path", "{here}/d.csv")
FILE = ("--config", "{here}/own.yaml")
TABLE = {
    "an unknown key": Mistake(("--search.stepz", "3"), ("search.stepz", "search.steps")),
    "an unknown key in a file": Mistake(
        FILE,
        ("{here}/own.yaml", "search.stepz", "search.steps"),
        {"own.yaml": "search: {stepz: 3}"},
    ),
    "a value of the wrong type": Mistake(("--search.steps", "many"), ("--search.steps", "many")),
    "a value out of range": Mistake(("--lora.k", "0"), ("--lora.k", "0", "1024")),
    "a wrong value in a file": Mistake(
        FILE, ("{here}/own.yaml", "lora.k"), {"own.yaml": "lora: {k: many}"}
    ),
    "a key that the rule does not have": Mistake(
        ("--choose.budget", "3"), ("--choose.budget", "threshold")
    ),
    "a key that the task does not have": Mistake(
        ("--task.samples", "3"), ("--task.samples", "text", "chat")
    ),
    "a value that the hypergradient does not go with": Mistake(
        ("--hypergradient.type", "exact", "--model.attention", "sdpa"),
        ("--model.attention", "sdpa"),
    ),
    "no such configuration": Mistake(("--config", "nosuch.yaml"), ("--config", "nosuch.yaml")),
    "no such table": Mistake(TEXT, ("--task.path", "{here}/d.csv")),
    "no such ranks": Mistake(
        ("--method", "lora_ranks", "--lora.ranks_from", "{here}/no.json"), ("{here}/no.json",)
    ),
    "a column that is not there": Mistake(
        (*TEXT, "--task.label_column", "stars"), ("stars", "text", "label"), {"d.csv": ROWS}
    ),
    "labels that training lacks": Mistake(
        (*TEXT, "--task.validation_path", "{here}/dev.csv"),
        ("{here}/dev.csv", "ugly", "bad"),
        {"d.csv": ROWS, "dev.csv": "text,label\na film,good\na room,ugly\n"},
    ),
    "target modules that match nothing": Mistake(
        ("--lora.target_modules", "[q_proj]"), ("--lora.target_modules", "q_proj", "query", "value")
    ),
    "modules to save that match nothing": Mistake(
        ("--lora.modules_to_save", "[poler]"), ("--lora.modules_to_save", "poler", "pooler")
    ),
    "no such base": Mistake(("--model.name", "{here}/nothing"), ("--model.name", "{here}/nothing")),
    "a base that the hub does not give": Mistake(
        ("--model.name", "nobody/no-such-model"), ("--model.name", "nobody/no-such-model")
    ),
    "a base that is damaged": Mistake(
        ("--model.name", "{here}/base"),
        ("--model.name", "{here}/base"),
        {"base/config.json": '{"model_type":'},
    ),
    "a folder that cannot be written": Mistake(
        ("--runs_folder", "{here}/file/runs"), ("{here}/file/runs",), {"file": ""}
    ),
}


@pytest.mark.parametrize("over", ["new", "over a finished run"])
@pytest.mark.parametrize("case", TABLE)
def test_a_mistake_is_one_line_and_changes_nothing(
    tiny: Tiny, finished: Finished, tmp_path: Path, folder: Path, case: str, over: str
) -> None:
    mistake = TABLE[case]
    here = str(tmp_path)
    for name, content in mistake.files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    if over != "new":
        shutil.copytree(finished(), folder)
    argv = tiny(*(word.replace("{here}", here) for word in mistake.words))
    before = everything(tmp_path)
    line = refused(*argv, *(() if over == "new" else ("--overwrite",)))
    for name in mistake.named:
        assert name.replace("{here}", here) in line
    assert everything(tmp_path) == before


DAMAGED: dict[str, tuple[str, bytes, str]] = {
    "ranks.json": ("ranks.json", b"{layers", "retrain"),
    "a rank that is none": (
        "ranks.json",
        b'{"layers": [{"name": "bert.encoder.layer.0.attention.self.query", "rank": -1}]}',
        "retrain",
    ),
    "a layer that the model has not": (
        "ranks.json",
        b'{"layers": [{"name": "bert.0.qery", "rank": 2}]}',
        "retrain",
    ),
    "config.yaml": ("config.yaml", b"seed: [\n", "report"),
    "metrics.json": ("metrics.json", b'{"metr', "report"),
    "trajectory.parquet": ("search/trajectory.parquet", b"PAR1", "report"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_of_a_run_is_named(tiny: Tiny, done: Path, folder: Path, case: str) -> None:
    name, content, stage = DAMAGED[case]
    (folder / name).write_bytes(content)
    if stage == "retrain":
        (folder / "metrics.json").unlink()
    before = everything(folder)
    assert str(folder / name) in refused(*tiny("--stage", stage))
    assert everything(folder) == before


def test_an_error_that_was_not_foreseen_is_one_line_and_a_traceback_in_the_log(
    tiny: Tiny, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends with exit code 1, and what was saved is there: the same command goes on."""

    def fails(self: object, path: str, **_: object) -> None:
        raise ValueError("odd parquet")

    with monkeypatch.context() as patch:
        patch.setattr(pd.DataFrame, "to_parquet", fails)
        answer = command(*tiny())
    assert answer.code == 1
    assert answer.line.startswith(f"error: ValueError: odd parquet; raised by {__name__}; ")
    assert answer.line.endswith(str(folder / "log.txt"))
    assert "Traceback" in (folder / "log.txt").read_text()
    succeed(*tiny())


def test_what_looks_wrong_and_is_right_is_trained_on(
    tiny: Tiny, tmp_path: Path, folder: Path
) -> None:
    """A byte order mark, an unused column, repeated rows, larger batches than there are rows, k of
    1."""
    (tmp_path / "d.csv").write_text(
        "\ufeffid,text,label\n" + "7,a film,bad\n7,a room,good\n" * 6, encoding="utf-8"
    )
    given = options(
        task__type="text",
        task__path=tmp_path / "d.csv",
        task__train_rows=1_000_000,
        task__evaluation_rows="null",
        search__steps=2,
        search__batch_size=512,
        retrain__max_steps=1,
        retrain__batch_size=512,
        lora__k=1,
    )
    succeed(*tiny(*given))
    assert read(folder / "metrics.json")["steps"] == {"search": 2, "retrain": 1}
