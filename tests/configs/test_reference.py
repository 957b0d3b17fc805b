"""docs/configuration.md says what the schema says."""

from pathlib import Path

from autolora.configs.keys import known_keys
from autolora.configs.reference import page

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_document_is_current() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == page(), (
        "run: python -m autolora.configs.reference > docs/configuration.md"
    )


def test_the_page_begins_with_the_file_that_replaces_its_defaults() -> None:
    assert "Without `--config` the file is\n[quickstart.yaml](" in page().split("\n## ")[0]


def test_every_key_has_a_row_with_its_default_and_what_is_allowed() -> None:
    rows = {line.split("`")[1]: line for line in page().splitlines() if line.startswith("| `")}
    assert set(rows) == set(known_keys())
    assert "| `8` |" in rows["lora.k"]
    assert "1 to 1024" in rows["lora.k"]
    assert "`[query, value]`" in rows["lora.target_modules"]
    assert "a list of whole numbers" in rows["lora.grid"]
    assert "keys with values" in rows["study.axes"]
    assert "| a list of: uniform, random |" in rows["verdict.arms"]
    assert "| a number above 0, at most 1,000,000, or null |" in rows["lora.budget"]
    assert "| a whole number: 1 to 1,000,000,000, or null |" in rows["task.train_rows"]
