"""WebNLG 2017 as LoRA's authors ship it."""

import json
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.schema import Autolora
from autolora.configs.tasks import Generation
from autolora.problems.tasks import make_task


def entry(subject: str, category: str, *texts: tuple[str, str]) -> dict[str, Any]:
    return {
        "category": category,
        "modifiedtripleset": [
            {"subject": subject, "property": "leaderName", "object": "Jacob_B"},
            {"subject": subject, "property": "country", "object": "Denmark"},
        ],
        "lexicalisations": [{"lex": lex, "comment": comment, "xml_id": "Id1"} for lex, comment in texts],
    }


def written(folder: Path, **files: list[dict[str, Any]]) -> Any:
    folder.mkdir(exist_ok=True)
    for name, entries in files.items():
        numbered = [{str(n): entry} for n, entry in enumerate(entries, 1)]
        (folder / f"{name}.json").write_text(json.dumps({"entries": numbered}), encoding="utf-8")
    task = Generation(type="generation", benchmark="webnlg", path=str(folder), metrics=["bleu"])
    return make_task(Autolora(name="a", task=task))


def test_each_file_is_a_split_and_good_texts_alone_are_learned(tmp_path: Path) -> None:
    train = [entry("Aarhus", "City", ("Jacob leads Aarhus.", "good"), ("Bad one.", "toFix"), ("Aarhus.", "good"))]
    task = written(tmp_path / "w", train=train, dev=[entry("Oslo", "City", ("Oslo.", "good"))],
                   test=[entry("Pluto", "Planet", ("Pluto.", "good"))])  # fmt: skip
    rows = task.rows()
    source = "Aarhus : leaderName : Jacob_B | Aarhus : country : Denmark"
    assert rows.train.to_list() == [
        {"source": source, "target": "Jacob leads Aarhus."},
        {"source": source, "target": "Aarhus."},
    ]
    (test,) = rows.evaluation.values()
    assert list(rows.evaluation) == ["test"]
    assert test["references"][:] == [["Pluto."]]


def test_without_a_test_file_dev_is_validation(tmp_path: Path) -> None:
    some = [entry("Aarhus", "City", ("A.", "good"))]
    assert list(written(tmp_path / "w", train=some, dev=some).rows().evaluation) == ["validation"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"entries": [{"1": {"lexicalisations": []}}]}', ("train.json is not WebNLG", "modifiedtripleset")),
        ('{"entries": [', ("train.json", "no JSON")),
        ('{"entries": 3}', ("train.json is not WebNLG",)),
    ],
)
def test_other_entries_are_one_line(tmp_path: Path, content: str, words: tuple[str, ...]) -> None:
    task = written(tmp_path / "w")
    (tmp_path / "w" / "train.json").write_text(content)
    with pytest.raises(UserError) as caught:
        task.rows()
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    for word in words:
        assert word in line
