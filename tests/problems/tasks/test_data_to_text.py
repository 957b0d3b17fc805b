"""Records from folders in the hub's layout and from users' tables."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from autolora.configs.errors import UserError
from autolora.configs.tasks import OF_OWN_TEXTS, Generation
from autolora.problems.tasks.data_to_text import E2E, SourceTarget, WebNLG, exact_match
from tests.helpers.generation_toys import write_e2e
from tests.helpers.places import SHARED


def table(path: Path, **changes: Any) -> SourceTarget:
    return SourceTarget(Generation(type="generation", path=str(path), **changes), seed=0)


def test_e2e_from_a_folder(tmp_path: Path) -> None:
    path = str(write_e2e(tmp_path / "d"))
    task = E2E(Generation(type="generation", benchmark="e2e", path=path, metrics=["bleu"]))
    rows = task.rows()
    assert len(rows.train) == 24
    assert list(rows.evaluation) == ["test"]
    test = rows.evaluation["test"]
    assert test["source"][0] == "name : The Mill | Type : pub | area : riverside"
    assert [len(x) for x in test["references"]] == [2, 2, 2, 2]
    task = E2E(Generation(type="generation", benchmark="e2e", path=path, metrics=["bleu"], evaluation_split="dev"))
    with pytest.raises(UserError, match=r"no split 'dev'; it has: train, validation, test"):
        task.rows()


def test_without_a_test_split_the_validation_split_is_reported(tmp_path: Path) -> None:
    path = write_e2e(tmp_path / "d")
    (path / "test.jsonl").unlink()
    task = E2E(Generation(type="generation", benchmark="e2e", path=str(path), metrics=["bleu"]))
    assert list(task.rows().evaluation) == ["validation"]
    assert task.evaluation_split == "validation"


def test_a_folder_without_training_rows_and_a_file_are_named(tmp_path: Path) -> None:
    """The second blamed --task.evaluation_split, which nobody had given; the first said that there was no file."""
    settings: Any = {"type": "generation", "benchmark": "e2e", "metrics": ["bleu"]}
    path = tmp_path / "d.jsonl"
    path.write_text('{"meaning_representation": "name[A]", "human_reference": "A."}\n')
    with pytest.raises(UserError, match=r"^--task\.path: .*d\.jsonl is a file, but e2e is read from a folder"):
        E2E(Generation(path=str(path), **settings)).rows()
    path.rename(tmp_path / "test.jsonl")
    with pytest.raises(UserError, match=r"^--task\.path: .* has no split 'train'; it has: test$"):
        E2E(Generation(path=str(tmp_path), **settings)).rows()


def test_a_folder_of_other_data_is_named_with_its_columns(tmp_path: Path) -> None:
    path = str(write_e2e(tmp_path / "d"))
    with pytest.raises(UserError, match=r"is not webnlg data .*meaning_representation, human_reference"):
        WebNLG(Generation(type="generation", benchmark="webnlg", path=path, metrics=["bleu"])).rows()


@pytest.mark.parametrize(
    "change",
    [
        {"modifiedtripleset": [{"subject": "a", "property": "b", "object": "c"}]},
        {"modifiedtripleset": None},
        {"lexs": ["a b c"]},
        {"lexs": [None]},
    ],
)
def test_webnlg_of_another_form_is_one_line(tmp_path: Path, change: dict[str, Any]) -> None:
    """Official WebNLG JSON has its triples as objects."""
    row = {"category": "City", "modifiedtripleset": ["a | b | c"], "lexs": [{"lex": "a b c", "comment": "good"}]}
    for split in ("train", "test"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(row | change) + "\n")
    with pytest.raises(UserError, match=r"'train' of .* is not webnlg data \(a column holds .*\); it has: ") as caught:
        WebNLG(Generation(type="generation", benchmark="webnlg", path=str(tmp_path), metrics=["BLEU"])).rows()
    assert "\n" not in str(caught.value)


def webnlg(folder: Path, train: list[str], test: list[str], **more: list[Any]) -> WebNLG:
    """A folder of the challenge's columns, one entry a category; more: columns of the test split."""
    folder.mkdir()
    for split, categories in (("train", train), ("test", test)):
        rows: list[dict[str, Any]] = [
            {
                "category": name,
                "modifiedtripleset": [f"{name} | is | {number}"],
                "lexs": [{"lex": f"{name} {number}", "comment": "good"}],
                "test_category": "",
            }
            for number, name in enumerate(categories)
        ]
        for key, values in more.items() if split == "test" else ():
            rows = [row | {key: value} for row, value in zip(rows, values, strict=True)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return WebNLG(Generation(type="generation", benchmark="webnlg", path=str(folder), metrics=["bleu", "ter"]))


def scored(task: WebNLG) -> list[str]:
    """The names of the scores of a perfect system."""
    (rows,) = task.rows().evaluation.values()
    return list(task.score_texts(list(rows["target"]), rows))


WHOLE = ["bleu", "ter"]
SEEN, UNSEEN = ["bleu.seen", "ter.seen"], ["bleu.unseen", "ter.unseen"]


@pytest.mark.parametrize(
    ("train", "test", "names"),
    [
        (["Airport", "Food"], ["Food", "Artist"], [*WHOLE, *SEEN, *UNSEEN]),
        (["Airport", "Food"], ["Food"], [*WHOLE, *SEEN]),
        (["Airport", "Artist", "Company"], ["Airport", "Artist", "Film"], WHOLE),  # the release of 2020
        (["Airport", "Artist"], ["Airport", "Artist"], WHOLE),  # release 2: all of 2017's categories are trained on
        (["Airport"], ["Airport", "Film"], WHOLE),
    ],
)
def test_webnlg_of_another_year_is_scored_as_a_whole(
    tmp_path: Path, train: list[str], test: list[str], names: list[str], log_lines: list[str]
) -> None:
    assert scored(webnlg(tmp_path / "d", train, test)) == names
    assert ["all texts are scored together" in line for line in log_lines] == [True] * (names == WHOLE)


def test_of_the_hubs_test_files_the_one_that_is_scored_is_read(tmp_path: Path) -> None:
    """The hub's test split holds the records once without texts, and those of unseen categories twice."""
    files = ["testdata_no_lex", "testdata_unseen_with_lex", "testdata_with_lex", "testdata_with_lex"]
    task = webnlg(
        tmp_path / "d", ["Food"], ["Food", "Artist", "Food", "Artist"], test_category=files,
        lexs=[[], *[[{"lex": str(number), "comment": "good"}] for number in range(3)]],
    )  # fmt: skip
    assert task.rows().evaluation["test"]["target"][:] == ["1", "2"]


def test_a_users_table_groups_by_source_and_holds_whole_sources_out(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    pairs = [(f"s{i}", f"t{i}{j}") for j in range(3) for i in range(10)]
    pd.DataFrame(pairs, columns=["data", "text"]).to_csv(path, index=False)
    task = table(path, text_columns=["data"], label_column="text", holdout_share=0.2)
    rows = task.rows()
    held_out = rows.evaluation["validation"]
    assert task.name == "mine"
    assert task.held_out
    assert len(held_out) == 2
    assert all(len(found) == 3 for found in held_out["references"])
    assert len(rows.train) == 24
    assert not set(held_out["source"]) & set(rows.train["source"])


def test_a_list_of_targets_is_several_references(tmp_path: Path) -> None:
    train, test = tmp_path / "train.jsonl", tmp_path / "test.jsonl"
    train.write_text(json.dumps({"source": "a", "target": "one"}) + "\n")
    test.write_text(json.dumps({"source": "b", "target": ["two", "three"]}) + "\n")
    task = table(train, test_path=str(test))
    assert task.rows().evaluation["test"]["references"][:] == [["two", "three"]]
    assert not task.held_out


def test_an_exact_match_is_with_any_reference_and_white_space_does_not_matter() -> None:
    refs = [["no", "yes  it is"], ["no"], ["b"], [" c"]]
    assert exact_match(["yes it is ", "No", "a", "c"], refs) == 0.5


def test_own_tables_of_short_answers_are_told_of_the_exact_match(tmp_path: Path, log_lines: list[str]) -> None:
    """20 perfect answers of one word have a BLEU of nearly 0."""
    path = tmp_path / "train.csv"
    answers = ["yes", "no", "it is so", "it is not so"]
    pd.DataFrame({"source": list(map(str, range(20))), "target": answers * 5}).to_csv(path, index=False)
    for settings in ({}, {"metrics": ["nist", "bleu"]}):
        log_lines.clear()
        table(path, test_path=str(path), **settings).rows()
        (line,) = log_lines
        assert f"{path.name}: 15 of 20 sources have answers of fewer than 4 words alone" in line
        assert line.endswith('set --task.metrics "[exact_match]"')
    log_lines.clear()
    task = table(path, test_path=str(path), metrics=["exact_match"])
    (rows,) = task.rows().evaluation.values()
    assert log_lines == []
    assert task.score_texts(["yes"] * 20, rows) == {"exact_match": 0.25}
    task = table(path, metrics=["exact_match", "bleu"])
    assert task.ordered(task.score_texts(["yes"] * 20, rows) | {"loss": 1.0}).keys() == {"exact_match", "bleu", "loss"}
    assert tuple(SourceTarget.own_metrics) == OF_OWN_TEXTS


def test_own_tables_of_sentences_are_not_told(tmp_path: Path, log_lines: list[str]) -> None:
    path = tmp_path / "train.jsonl"
    answers = [["no", "it is not so"], "it is not so", "no"]
    path.write_text("".join(json.dumps({"source": str(n), "target": x}) + "\n" for n, x in enumerate(answers)))
    table(path, test_path=str(path)).rows()
    assert log_lines == []


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([{"source": "a"}], "has no column target; it has: source"),
        ([{"source": "a", "target": "x"}, {"source": " ", "target": "x"}], "line 2: column 'source' has no text"),
        ([{"source": "a", "target": []}, {"source": "b", "target": ["x"]}], "line 1: column 'target' has no text"),
        ([{"source": "a", "target": {"text": "x"}}], "line 1: column 'target' holds an object; allowed: a text$"),
        ([{"source": 3, "target": "x"}], "line 1: column 'source' holds a number; allowed: a text$"),
        ([{"source": "a", "target": ["x", 3]}], "line 1: column 'target' holds a number; allowed: a text$"),
        ([{"source": "a", "target": ["x", "y\ude00"]}], "line 1: column 'target' holds a broken character"),
        ([{"source": "a", "target": "x"}], "has one source"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, lines: list[dict[str, Any]], words: str) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(UserError, match=words):
        table(path).rows()


@pytest.mark.parametrize("line", ['{"meaning_representation": \n', '{"mr": "name[A]", "human_reference": "A."}\n'])
def test_a_file_that_datasets_cannot_read_is_one_line(tmp_path: Path, line: str) -> None:
    path = write_e2e(tmp_path / "d")
    (path / "test.jsonl").write_text(line)
    with pytest.raises(UserError, match=r"^--task\.path: .* cannot be read \(.+\); allowed: files of one") as caught:
        E2E(Generation(type="generation", benchmark="e2e", path=str(path), metrics=["bleu"])).rows()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("column", ["meaning_representation", "human_reference"])
def test_a_null_in_a_benchmarks_column_is_one_line(tmp_path: Path, column: str) -> None:
    path = write_e2e(tmp_path / "d")
    rows = [json.loads(line) for line in (path / "train.jsonl").read_text().splitlines()]
    rows[3][column] = None
    (path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match=r"^--task\.path: split 'train' of .* is not e2e data \("):
        E2E(Generation(type="generation", benchmark="e2e", path=str(path), metrics=["bleu"])).rows()


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="the real E2E and WebNLG are not on this machine (../shared/data)")
def test_the_real_data_is_read_whole() -> None:
    def rows(kind: Any, name: str) -> Any:
        return kind(Generation(type="generation", name=name, path=str(SHARED / folder), metrics=["bleu"])).rows()

    folder = "e2e_nlg"
    found = rows(E2E, "e2e")
    assert (len(found.train), len(found.evaluation["test"])) == (42061, 630)
    folder = "webnlg2017"
    found = rows(WebNLG, "webnlg")
    assert len(found.evaluation["validation"]) == 872
