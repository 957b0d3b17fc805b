"""Bad input: one line that names the thing; through the real command exit code 2, and nothing is written."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

import run
from configs.errors import UserError
from configs.parser import parse_command
from configs.requests import Request
from engine.command import run_request
from engine.retrain.methods import METHODS
from engine.run.context import Context
from engine.run.interrupt import StopRequest
from engine.search.stage import build_search
from problems.hypergradients import HYPERGRADIENTS

Answer = tuple[int, list[str]]
Command = Callable[..., Answer]
Begin = Callable[..., None]
ROWS = [("the film is dull", "bad"), ("our room is clean", "good")] * 6


@pytest.fixture
def command(
    make_argv: Callable[[Path], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> Command:
    """command("--seed", "-1") -> exit code and the lines on stderr; {here} stands for the test's folder."""
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")

    def call(*arguments: str) -> Answer:
        argv = make_argv(tmp_path)  # the first call makes the model, with a word on stderr
        given = [argument.replace("{here}", str(tmp_path)) for argument in arguments]
        capsys.readouterr()
        code = run.main([*argv, *given])
        shown = capsys.readouterr()
        assert "Traceback" not in shown.out + shown.err
        return code, [line for line in shown.err.splitlines() if line.strip()]

    return call


@pytest.fixture
def begin(make_argv: Callable[[Path], list[str]], tmp_path: Path) -> Callable[..., None]:
    """begin("--seed", "-1"): what a command does before it trains, in this process and without the run's folder."""

    def call(*arguments: str) -> None:
        request = parse_command([*make_argv(tmp_path), *(a.replace("{here}", str(tmp_path)) for a in arguments)])
        if not isinstance(request, Request):
            return run_request(request, StopRequest())
        run = Context(request.config, StopRequest())
        if request.stage == "retrain":
            METHODS[request.config.method].prepare(run.base(), run, len(run.data.train))
        else:
            build_search(run, second_order=HYPERGRADIENTS[request.config.hypergradient.type].second_order)
        return None

    return call


def refused(begin: Callable[..., None], tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    """The command is refused before it trains, in one line with these words."""
    with pytest.raises(UserError) as caught:
        begin(*arguments)
    line = str(caught.value)
    assert len(line.splitlines()) == 1, line
    for word in words:
        assert word.replace("{here}", str(tmp_path)) in line


def everything(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def ends_with_code_2(command: Command, tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    """The same through the real command, which writes nothing: one case of each kind."""
    before = everything(tmp_path)
    code, lines = command(*arguments)
    assert code == 2, lines
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    for word in words:
        assert word.replace("{here}", str(tmp_path)) in lines[0], lines[0]
    assert everything(tmp_path) == before


VALUES = {
    "negative steps": (("--search.steps", "-1"), "search.steps"),
    "no steps": (("--search.steps", "0"), "search.steps"),
    "fraction of a step": (("--search.steps", "1.5"), "search.steps"),
    "words for a number": (("--search.learning_rate", "fast"), "search.learning_rate"),
    "negative rate": (("--search.learning_rate", "-1e-3"), "search.learning_rate"),
    "endless rate": (("--search.learning_rate", "inf"), "search.learning_rate"),
    "rate that is no number": (("--retrain.learning_rate", "nan"), "retrain.learning_rate"),
    "k of 0": (("--lora.k", "0"), "lora.k"),
    "huge k": (("--lora.k", "99999999999999999999"), "lora.k"),
    "dropout of 1": (("--lora.dropout", "1"), "lora.dropout"),
    "negative seed": (("--seed", "-1"), "seed"),
    "huge seed": (("--seed", "4294967296"), "seed"),
    "batch of 0": (("--search.batch_size", "0"), "search.batch_size"),
    "share of 0": (("--task.validation_share", "0"), "task.validation_share"),
    "share of 1": (("--task.validation_share", "1"), "task.validation_share"),
    "share too small": (("--task.validation_share", "1e-9"), "task.validation_share"),
    "max_length of 1": (("--task.max_length", "1"), "task.max_length"),
    "train_rows of 0": (("--task.train_rows", "0"), "task.train_rows"),
    "eta below 0": (("--hypergradient.eta", "-1"), "hypergradient.eta"),
    "eta in words": (("--hypergradient.eta", "big"), "hypergradient.eta"),
    "approximation": (("--hypergradient.type", "newton"), "darts"),
    "reinforce": (("--hypergradient.type", "reinforce"), "unfinished"),
    "kernel": (("--hypergradient.type", "exact", "--model.attention", "sdpa"), "model.attention"),
    "precision": (("--precision", "fp8"), "precision"),
    "device": (("--device", "tpu"), "device"),
    "boolean": (("--search.dropout", "maybe"), "search.dropout"),
    "list": (("--lora.target_modules", "[]"), "lora.target_modules"),
    "target": (("--lora.target_modules", "[qurey]"), "query"),
    "module to save": (("--lora.modules_to_save", "[poler]"), "there are: LayerNorm"),
    "stage": (("--stage", "serach"), "stage"),
    "name upwards": (("--name", "../up"), "--name"),
    "name with a slash": (("--name", "a/b"), "--name"),
    "name absolute": (("--name", "/tmp/x"), "--name"),
    "name of dots": (("--name", ".."), "--name"),
    "empty name": (("--name", ""), "--name"),
    "name with a line end": (("--name", "a\n"), "--name"),
    "long name": (("--name", "x" * 300), "--name"),
    "misspelt key": (("--search.stpes", "3"), "search.steps"),
    "key without section": (("--steps", "3"), "search.steps"),
    "config that is a folder": (("--config", "{here}"), "--config"),
    "split": (("--task.evaluation_split", "dev"), "train"),
    "metric": (("--task.metrics", "[f7]"), "accuracy"),
    "model": (("--model.name", "{here}/nothing"), "--model.name"),
    "package": (("--model.name", "package:json/../../etc"), "--model.name"),
    "glue without a task": (("--task.type", "glue"), "task.name"),
    "text without a path": (("--task.type", "text"), "task.path"),
    "text from nowhere": (("--task.type", "text", "--task.path", "{here}/none.csv"), "none.csv"),
    "text of another kind": (("--task.type", "text", "--task.path", "{here}/x.xlsx"), ".csv"),
    "tokens without a path": (("--task.type", "tokens"), "task.path"),
    "tokens from nowhere": (("--task.type", "tokens", "--task.path", "{here}/none.conll"), "none.conll"),
    "metric of tokens": (("--task.type", "tokens", "--task.path", "x.conll", "--task.metrics", "[f7]"), "f1, prec"),
    "k above a layer's side": (("--lora.k", "33"), "attention.self"),
    "score without files": (("--score", "e2e"), "--hyp"),
    "show nothing": (("--show", "{here}/none"), "--show"),
}


@pytest.mark.parametrize("case", VALUES)
def test_values_on_the_command_line(begin: Begin, tmp_path: Path, case: str) -> None:
    arguments, word = VALUES[case]
    refused(begin, tmp_path, arguments, (word,))


@pytest.mark.parametrize("case", ["negative steps", "target", "misspelt key", "config that is a folder"])
def test_a_refused_value_ends_the_command(command: Command, tmp_path: Path, case: str) -> None:
    arguments, word = VALUES[case]
    ends_with_code_2(command, tmp_path, arguments, (word,))


def test_an_adapter_is_no_base_model(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}')
    words = ("--model.name: ", "holds an adapter, not a model; name its base model (it says: org/base)")
    refused(begin, tmp_path, ("--model.name", "{here}/adapter"), words)


def test_a_runs_folder_in_a_file_ends_the_command(command: Command, tmp_path: Path) -> None:
    ends_with_code_2(command, tmp_path, ("--runs_folder", str(Path(run.__file__) / "runs")), ("--runs_folder",))


YAML: dict[str, tuple[str | bytes, str]] = {
    "unclosed": ("search: {steps: 3", "bad.yaml"),
    "tabs": ("search:\n\tsteps: 3", "bad.yaml"),
    "a list": ("- a\n- b\n", "bad.yaml"),
    "a word": ("hello", "bad.yaml"),
    "unknown key": ("search:\n  stpes: 3\n", "bad.yaml: unknown key 'search.stpes'; did you mean 'search.steps'?"),
    "wrong type": ("search:\n  steps: many\n", "search.steps"),
    "a section that is a number": ("search: 3\n", "search"),
    "a null section": ("search:\n", "search"),
    "python objects": ("name: !!python/object/apply:os.system ['touch {here}/owned']\n", "bad.yaml"),
    "bytes that are not UTF-8": (b"name: \xff\xfe\n", "bad.yaml"),
    "zeros": (b"\x00\x00", "bad.yaml"),
}


@pytest.mark.parametrize("case", YAML)
def test_configuration_files(begin: Begin, tmp_path: Path, case: str) -> None:
    content, word = YAML[case]
    data = content if isinstance(content, bytes) else content.replace("{here}", str(tmp_path)).encode()
    (tmp_path / "bad.yaml").write_bytes(data)
    refused(begin, tmp_path, ("--config", "{here}/bad.yaml"), (word,))


def test_a_broken_configuration_file_ends_the_command(command: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("search: {steps: 3")
    ends_with_code_2(command, tmp_path, ("--config", "{here}/bad.yaml"), ("bad.yaml",))


def csv(rows: list[tuple[str, str]], header: str = "text,label") -> str:
    return "\n".join([header, *(f'"{text}",{label}' for text, label in rows)]) + "\n"


REGRESSION = ("--task.kind", "regression")
TABLES: dict[str, tuple[str, str | bytes, tuple[str, ...], tuple[str, ...]]] = {
    "empty file": ("d.csv", "", (), ("d.csv",)),
    "header only": ("d.csv", "text,label\n", (), ("d.csv", "no rows")),
    "one row": ("d.csv", csv(ROWS[:1]), (), ("d.csv",)),
    "more tokens than positions": (
        "d.csv",
        csv([*ROWS, ("a " * 90, "good")]),
        (),
        ("a row has 92 tokens", "takes 80"),
    ),
    "one class": ("d.csv", csv([("a b", "x")] * 8), (), ("one class",)),
    "no label column": ("d.csv", csv(ROWS, "text,answer"), (), ("label", "it has: text, answer")),
    "no text column": ("d.csv", csv(ROWS, "txt,label"), (), ("text",)),
    "named column": ("d.csv", csv(ROWS), ("--task.text_columns", "[body]"), ("body",)),
    "an empty text": ("d.csv", csv([*ROWS, ("", "good")]), (), ("row 13", "no text")),
    "a blank text": ("d.csv", csv([*ROWS, ("   ", "good")]), (), ("row 13", "no text")),
    "a missing label": ("d.csv", csv([*ROWS, ("x y", "")]), (), ("row 13", "label")),
    "too many cells": ("d.csv", csv(ROWS) + "a,b,c,d\n", (), ("d.csv",)),
    "not UTF-8": ("d.csv", b"text,label\n\xff\xfe,a\nb,c\n", (), ("d.csv", "UTF-8")),
    "JSON not UTF-8": ("d.jsonl", b'{"text": "\xff", "label": "a"}\n', (), ("d.jsonl",)),
    "broken JSON": ("d.jsonl", '{"text": "a", "label": 0}\n{"text": \n', (), ("d.jsonl",)),
    "JSON that is a list": ("d.jsonl", "[1, 2]\n[3, 4]\n", (), ("d.jsonl",)),
    "text that is a number": (
        "d.jsonl",
        '{"text": 3, "label": 0}\n{"text": 4, "label": 1}\n' * 4,
        (),
        ("row", "no text"),
    ),
    "label that is null": (
        "d.jsonl",
        ('{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n' * 4) + '{"text": "c", "label": null}\n',
        (),
        ("row 9", "label"),
    ),
    "no parquet": ("d.parquet", "hello", (), ("d.parquet",)),
    "NaN target": ("d.csv", csv([("a", "1"), ("b", "2"), ("c", "nan")] * 3), REGRESSION, ("row", "not a number")),
    "infinite target": ("d.csv", csv([("a", "1"), ("b", "2"), ("c", "inf")] * 3), REGRESSION, ("row", "not a number")),
    "word for a number": ("d.csv", csv([("a", "1"), ("b", "two")] * 4), REGRESSION, ("row", "not a number")),
    "metric of another kind": ("d.csv", csv(ROWS), ("--task.metrics", "[pearson]"), ("pearson", "accuracy")),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables(begin: Begin, tmp_path: Path, case: str) -> None:
    name, content, more, words = TABLES[case]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(begin, tmp_path, ("--task.type", "text", "--task.path", f"{{here}}/{name}", *more), words)


def test_a_broken_table_ends_the_command(command: Command, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(csv([*ROWS, ("", "good")]))
    ends_with_code_2(command, tmp_path, ("--task.type", "text", "--task.path", "{here}/d.csv"), ("row 13", "no text"))


def test_a_label_that_training_does_not_know(begin: Begin, tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text(csv(ROWS))
    (tmp_path / "dev.csv").write_text(csv([("a film", "good"), ("a room", "ugly")]))
    arguments = ("--task.type", "text", "--task.path", "{here}/train.csv", "--task.validation_path", "{here}/dev.csv")
    refused(begin, tmp_path, arguments, ("dev.csv, row 2", "ugly", "known: bad, good"))


SENTENCES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "IO tags": ("d.conll", "a O\nb I-x\n", ("d.conll, line 2", "IOB2")),
    "no tags": ("d.conll", "a\nb\n", ("d.conll: line 1", "one column")),
    "unequal lists": (
        "d.jsonl",
        '{"tokens": ["a", "b"], "tags": ["O"]}\n',
        ("d.jsonl, row 1", "2 words"),
    ),
    "one sentence for two halves": ("d.conll", "a B-x\n\nb O\n", ("--task.validation_share",)),
}


@pytest.mark.parametrize("case", SENTENCES)
def test_tagged_sentences(begin: Begin, tmp_path: Path, case: str) -> None:
    name, content, words = SENTENCES[case]
    (tmp_path / name).write_text(content)
    refused(begin, tmp_path, ("--task.type", "tokens", "--task.path", f"{{here}}/{name}"), words)


def ranks(*layers: Any, **more: Any) -> str:
    return json.dumps({"layers": list(layers), **more})


QUERY = "bert.encoder.layer.0.attention.self.query"
RANKS: Mapping[str, tuple[str | bytes, tuple[str, ...]]] = {
    "empty": ("", ("ranks.json",)),
    "not JSON": ("{", ("ranks.json",)),
    "not UTF-8": (b"\xff\xfe\xff", ("ranks.json",)),
    "a list": ("[]", ("layers",)),
    "no layers": ('{"layers": []}', ("layers",)),
    "layers that are a number": ('{"layers": 3}', ("layers",)),
    "a layer without name": (ranks({"rank": 2}), ("layers[0]",)),
    "a negative rank": (ranks({"name": QUERY, "rank": -1}), ("layers[0]", "-1")),
    "half a rank": (ranks({"name": QUERY, "rank": 1.5}), ("1.5",)),
    "a rank of true": (ranks({"name": QUERY, "rank": True}), ("True",)),
    "a rank in words": (ranks({"name": QUERY, "rank": "two"}), ("two",)),
    "a rank above the layer's side": (ranks({"name": QUERY, "rank": 33}), (QUERY, "0 to 32")),
    "only zeros": (ranks({"name": QUERY, "rank": 0}), ("ranks.json",)),
    "only zeros, with k": (ranks({"name": QUERY, "rank": 0}, k=8), ("every rank is 0",)),
    "a layer twice": (ranks({"name": QUERY, "rank": 1}, {"name": QUERY, "rank": 2}), ("twice",)),
    "another model's layer": (ranks({"name": "model.layers.0.q_proj", "rank": 1}), ("the nearest is",)),
    "k of 0": (ranks({"name": QUERY, "rank": 1}, k=0), ("k is 0",)),
    "alpha of words": (ranks({"name": QUERY, "rank": 1, "alpha": ["a"]}), ("alpha",)),
    "a module that takes no LoRA": (ranks({"name": "embeddings.LayerNorm", "rank": 1}), ("embeddings.LayerNorm",)),
}


@pytest.mark.parametrize("case", RANKS)
def test_rank_records_edited_by_hand(begin: Begin, tmp_path: Path, case: str) -> None:
    content, words = RANKS[case]
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    (folder / "ranks.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(begin, tmp_path, ("--stage", "retrain"), words)


def test_a_broken_rank_record_ends_the_command(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    (folder / "ranks.json").write_text(ranks({"name": QUERY, "rank": -1}))
    ends_with_code_2(command, tmp_path, ("--stage", "retrain"), ("layers[0]", "-1"))


GOOD: dict[str, tuple[str, tuple[str, ...]]] = {
    "a text of 100,000 words": (csv([*ROWS, ("film " * 100_000, "bad")]), ("--task.max_length", "16")),
    "the same row again and again": (csv(ROWS * 3), ()),
    "columns that nobody asked for": ("id,text,label\n" + "7,a film,bad\n7,a room,good\n" * 6, ()),
    "k of 1": (csv(ROWS), ("--lora.k", "1")),
    "more train_rows than rows": (csv(ROWS), ("--task.train_rows", "1000000")),
    "batches larger than the data": (csv(ROWS), ("--search.batch_size", "512", "--retrain.batch_size", "512")),
    "a byte order mark": ("\ufeff" + csv(ROWS), ()),
    "D_val without a class": (csv([("a film", "bad")] * 20 + [("a room", "good")]), ("--task.holdout_share", "0.05")),
}


QUICK = ("a text of 100,000 words", "k of 1", "D_val without a class")


@pytest.mark.trains
@pytest.mark.parametrize("case", [c if c in QUICK else pytest.param(c, marks=pytest.mark.slow) for c in GOOD])
def test_odd_but_right(command: Command, tmp_path: Path, case: str) -> None:
    content, more = GOOD[case]
    (tmp_path / "d.csv").write_text(content, encoding="utf-8")
    small = ("--search.steps", "2", "--retrain.max_steps", "1")
    code, lines = command("--task.type", "text", "--task.path", "{here}/d.csv", *small, *more)
    assert code == 0, lines
    assert (tmp_path / "runs" / "tiny" / "metrics.json").exists()
