"""Bad values on the command line: one line that names the thing; exit code 2, and nothing is written."""

from pathlib import Path

import pytest

import run
from tests.helpers.bad_input import Begin, Command, ends_with_code_2, refused

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
    "file of an approximation": (("--hypergradient.type", "no.py:Mine"), "there is no file no.py"),
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
