"""A local folder in the hub's layout is read as it is now."""

import json
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict

from autolora.configs.errors import UserError
from autolora.configs.tasks import Glue as GlueSettings
from autolora.problems.tasks.glue import Glue
from autolora.problems.tasks.readers.hub import load_splits
from tests.helpers.glue_folders import folder_of, rows


def test_a_folder_is_read_as_it_is_now(tmp_path: Path) -> None:
    """datasets' own cache knows a folder by its last name only: it gave the rows of another folder of that name."""
    for parent, text in (("a", "first"), ("b", "second"), ("b", "changed")):
        (tmp_path / parent).mkdir(exist_ok=True)
        splits = {"train": rows("sst2", 1, text), "validation": rows("sst2", 1, text)}
        path = folder_of(tmp_path / parent / "my_data", "sst2", splits)
        found = Glue(GlueSettings(type="glue", glue="sst2", path=path), 0).rows()
        assert found.train["sentence"][0] == f"{text} sentence"


@pytest.mark.parametrize("whole", [True, False], ids=["DatasetDict", "Dataset"])
def test_what_save_to_disk_wrote_is_read(tmp_path: Path, *, whole: bool) -> None:
    saved = Dataset.from_dict({"text": ["a", "b"]})
    (DatasetDict({"train": saved}) if whole else saved).save_to_disk(tmp_path / "saved")
    assert load_splits(str(tmp_path / "saved"), None, "chat", may_choose=True)["train"]["text"][:] == ["a", "b"]


HEAD = "---\nconfigs:\n- config_name: {}\n  data_files: one.jsonl\n- config_name: two\n  data_files: two.jsonl\n---\n"


def test_a_configuration_that_is_not_there_is_refused(tmp_path: Path, log_lines: list[str]) -> None:
    """A mistyped name read the default configuration without a word."""
    for name in ("one", "two"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": name}) + "\n")
    (tmp_path / "README.md").write_text(HEAD.format("default"))

    def read(wanted: str | None) -> tuple[str, list[str]]:
        log_lines.clear()
        splits = load_splits(str(tmp_path), wanted, "chat", may_choose=True)
        return splits["train"]["text"][0], list(log_lines)

    assert read("two") == ("two", [f"INFO data: configuration two of {tmp_path}"])
    assert read(None) == ("one", [])
    assert read("default") == ("one", [])
    with pytest.raises(UserError, match=r"^--task\.configuration: 'tow' is not .* the configurations default, two$"):
        read("tow")
    (tmp_path / "README.md").write_text(HEAD.format("one"))
    with pytest.raises(UserError, match=r"^--task\.configuration: null is not .* the configurations one, two$"):
        read(None)


@pytest.mark.parametrize("name", ["data [v2]", "what?", "a*b"])
def test_a_folder_whose_path_datasets_takes_for_a_pattern_is_refused(tmp_path: Path, name: str) -> None:
    inner = tmp_path / name / "rows"
    inner.mkdir(parents=True)
    (inner / "train.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(UserError, match=r"which the package datasets takes for a pattern"):
        load_splits(str(inner), None, "chat")


COUNTED = """---
dataset_info:
  features:
  - name: text
    dtype: string
  splits:
  - name: train
    num_bytes: 100
    num_examples: 9
---
"""


def test_a_copy_with_fewer_rows_than_its_page_says_is_read(tmp_path: Path) -> None:
    """Rows that the user has removed were a traceback."""
    (tmp_path / "train.jsonl").write_text(json.dumps({"text": "one"}) + "\n")
    (tmp_path / "README.md").write_text(COUNTED)
    assert load_splits(str(tmp_path), None, "chat", may_choose=True)["train"]["text"][:] == ["one"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [("README.md", "---\na: [\n---\n", "expected the node content"), ("train.jsonl", "", "")],
)
def test_a_folder_that_datasets_cannot_read_is_one_line(tmp_path: Path, name: str, content: str, reason: str) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps({"text": "one"}) + "\n")
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=rf"^--task\.path: .*{reason}") as caught:
        load_splits(str(tmp_path), None, "chat", may_choose=True)
    assert "\n" not in str(caught.value)
