"""--help, docs/configuration.md and the JSON Schema say what the settings are."""

import json
from collections import Counter

import pytest
import yaml

from autolora.configs.files import load_config, shipped_configs, to_yaml
from autolora.configs.layers import keys
from autolora.configs.locations import CONFIGS
from autolora.configs.pages import entries, help_text, json_schema, markdown
from tests.helpers.command import parse
from tests.helpers.paths import ROOT


def test_every_key_is_told_with_its_meaning_and_the_choices_that_have_it() -> None:
    found = list(entries())
    assert {entry.key for entry in found} == set(keys())
    assert [entry.key for entry in found if len(entry.meaning) < 10] == []
    assert [entry.key for entry in found if "<" in entry.allowed or "typing" in entry.allowed] == []
    several = Counter(entry.key for entry in found)
    assert [entry for entry in found if several[entry.key] > 1 and not entry.choices] == []


def test_help_is_narrow_and_has_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    assert shown.strip() == help_text().strip()
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 100
    assert {line.split()[0][2:] for line in lines if line.startswith("  --")} >= set(keys()) | {
        "config",
        "show",
    }


def test_the_document_is_current() -> None:
    document = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert document == markdown(), "run: python -m autolora.configs.pages > docs/configuration.md"


def test_the_schema_accepts_the_shipped_files_and_all_that_is_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        parse(["--print_schema"])
    schema = json.loads(capsys.readouterr().out)
    assert schema == json.loads(json_schema())
    check = pytest.importorskip("jsonschema").Draft202012Validator(schema)
    for name in shipped_configs():
        assert check.is_valid(yaml.safe_load(to_yaml(load_config(CONFIGS / name)))), name
        file = yaml.safe_load((CONFIGS / name).read_text(encoding="utf-8"))
        # a study's file has keys that only some cells read
        assert "study" in file or check.is_valid(file), name
    assert not check.is_valid({"search": {"setps": 3}})
