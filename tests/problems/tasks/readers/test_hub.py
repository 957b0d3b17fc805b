"""A local folder in the hub's layout is read as it is now."""

from pathlib import Path

from configs.schema import TaskConfig
from problems.tasks.glue import Glue
from tests.helpers.glue_folders import folder_of, rows


def test_a_folder_is_read_as_it_is_now(tmp_path: Path) -> None:
    """datasets' own cache knows a folder by its last name only: it gave the rows of another folder of that name."""
    for parent, text in (("a", "first"), ("b", "second"), ("b", "changed")):
        (tmp_path / parent).mkdir(exist_ok=True)
        splits = {"train": rows("sst2", 1, text), "validation": rows("sst2", 1, text)}
        path = folder_of(tmp_path / parent / "my_data", "sst2", splits)
        found = Glue(TaskConfig(type="glue", name="sst2", path=path)).rows()
        assert found.train["sentence"][0] == f"{text} sentence"
