"""The digest of what a task read: the same however a seed divides the rows, another after any change of a row."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from autolora.configs.schema import RunConfig
from autolora.problems.tasks import make_task
from autolora.problems.tasks.source_digest import source_digest

COLUMNS: dict[str, list[Any]] = {
    "text": ["a", "b", "b", "é"], "label": [0, 1, 1, 0], "tags": [["O"], ["B", "O"], ["B", "O"], []],
}  # fmt: skip
ROWS = Dataset.from_dict(COLUMNS)


def test_order_and_division_do_not_count() -> None:
    whole = source_digest([ROWS])
    assert whole["rows"] == 4
    assert source_digest([ROWS.select([3, 1, 0, 2])]) == whole
    assert source_digest([ROWS.select([2]), ROWS.select([]), ROWS.select([3, 0, 1])]) == whole
    assert source_digest([ROWS.select_columns(["tags", "label", "text"])]) == whole
    assert json.loads(json.dumps(whole)) == whole


OTHER: dict[str, Dataset] = {
    "labels changed over": Dataset.from_dict(COLUMNS | {"label": [1, 0, 1, 0]}),
    "a letter": Dataset.from_dict(COLUMNS | {"text": ["a", "b", "b", "è"]}),
    "a list cut otherwise": Dataset.from_dict(COLUMNS | {"tags": [["O", "B"], ["O"], ["B", "O"], []]}),
    "an equal row less": ROWS.select([0, 1, 3]),
    "another row twice": ROWS.select([0, 0, 1, 3]),
    "no row": ROWS.select([]),
}


def test_every_change_of_a_row_counts() -> None:
    found = {case: source_digest([rows])["sha256"] for case, rows in OTHER.items()}
    assert len({source_digest([ROWS])["sha256"], *found.values()}) == 1 + len(OTHER), found


def chat(number: int, answer: str) -> str:
    turns = [{"role": "user", "content": f"question {number}"}, {"role": "assistant", "content": answer}]
    return json.dumps({"messages": turns})


FILES: dict[str, tuple[str, Callable[[int], str]]] = {
    "text": ("text,label\n", lambda i: f"word {i},{'ab'[i % 2]}"),
    "tokens": ("", lambda i: json.dumps({"tokens": ["x", str(i)], "tags": ["O", "B-A" if i % 2 else "O"]})),
    "generation": ("source,target\n", lambda i: f"source {i // 2},target {i % 5}"),  # two references of each source
    "chat": ("", lambda i: chat(i, f"answer {i % 5}")),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_task_reads_the_same_whichever_rows_a_seed_holds_out(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, kind: str
) -> None:
    head, line = FILES[kind]
    path = tmp_path / ("rows.csv" if head else "rows.jsonl")

    def found(seed: int, changed: int | None = None) -> tuple[dict[str, Any], list[Any]]:
        lines = [line(i if i != changed else i + 1) for i in range(20)]
        path.write_text(head + "\n".join(lines) + "\n")
        metrics = ("--task.metrics", "[token_accuracy]") if kind == "generation" else ()
        task = make_task(tiny_config("--task.type", kind, "--task.path", str(path), "--seed", str(seed), *metrics))
        rows = task.rows()
        return source_digest(task.as_read(rows)), rows.train.to_list()

    first, drawn = found(0)
    others = [found(seed) for seed in (1, 2, 3)]
    assert any(rows != drawn for _, rows in others), "other rows are held out"
    assert [read for read, _ in others] == [first] * 3
    assert found(0, changed=4)[0] != first
