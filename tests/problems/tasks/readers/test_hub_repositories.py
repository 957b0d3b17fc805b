"""Data sets of a small hub: each either loads or is one line that tells the cause."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, Sequence, Value

from autolora.problems.tasks.readers.hub import CONVERSION
from tests.helpers.places import ROOT
from tests.helpers.small_hub import Repository, serving

E2E = {
    "meaning_representation": ["name[Blue Spice], area[riverside]"],
    "human_reference": ["Blue Spice is by the river."],
}
WEBNLG = {
    "modified_triple_sets": [{"mtriple_set": [["Aarhus | leaderName | Jacob"]]}],
    "lex": [{"text": ["Jacob leads Aarhus."], "comment": ["good"]}],
    "category": ["City"], "test_category": [""],
}  # fmt: skip
TAGGED = {"tokens": [["IL-2", "gene", "binds"]], "tags": [[3, 4, 0]]}
NAMED = Features(
    {"tokens": Sequence(Value("string")), "ner_tags": Sequence(ClassLabel(names=["O", "B-RNA", "I-RNA"]))}
)
MORE = {"tokens": [["mRNA", "x"]], "ner_tags": [[1, 0]]}


def parquet(rows: dict[str, list[Any]], features: Features | None = None) -> bytes:
    file = io.BytesIO()
    Dataset.from_dict(rows, features=features).to_parquet(file)
    return file.getvalue()


def splits(folder: str, data: bytes, *names: str) -> dict[str, bytes]:
    return {f"{folder}/{name}/0000.parquet": data for name in names}


def script(name: str, **conversion: dict[str, bytes]) -> Repository:
    """A repository that is a script, with the configurations in its conversion."""
    files = {path: data for found in conversion.values() for path, data in found.items()}
    main = {"README.md": b"# data\n", f"{name}.py": b"raise SystemExit('run')\n"}
    return Repository({"main": main} | ({CONVERSION: files} if files else {}))


ALL = ("train", "validation", "test")
CHATS = {True: b'{"prompt": "a", "completion": "new"}\n', False: b'{"prompt": "a", "completion": "old"}\n'}
HEAD = (
    b"---\nconfigs:\n- config_name: one\n  data_files: one.jsonl\n- config_name: two\n  data_files: two.jsonl\n---\n"
)
PAIRS = {
    name: b"".join(b'{"prompt": "%d", "completion": "of %s"}\n' % (i, name.encode()) for i in range(20))
    for name in ("one", "two")
}
REPOSITORIES = {
    "tuetschek/e2e_nlg": script("e2e_nlg", default=splits("default", parquet(E2E), *ALL)),
    "webnlg-challenge/web_nlg": script(
        "web_nlg",
        one=splits("release_v3.0_en", parquet(E2E), "train", "dev"),
        other=splits("webnlg_challenge_2017", parquet(WEBNLG), "train", "dev", "test"),
    ),
    "tner/bionlp2004": script("bionlp2004", bionlp2004=splits("bionlp2004", parquet(TAGGED), *ALL)),
    "jnlpba/jnlpba": script("jnlpba", jnlpba=splits("jnlpba", parquet(MORE, NAMED), "train", "validation")),
    "own/unnamed": Repository({"main": {"README.md": b"", "train.parquet": parquet(TAGGED)}}),
    "own/unconverted": script("unconverted"),
    "own/stored": Repository({"main": {"README.md": b"", **splits("data", parquet(E2E), *ALL)}}, lfs=True),
    "own/slow": Repository({"main": {"README.md": b"", **splits("data", parquet(E2E), *ALL)}}, seconds=0.3),
    "own/gated": Repository({"main": {}}, refuses=(401, "GatedRepo")),
    "own/chats": Repository({
        "main": {"README.md": b"", "train.jsonl": CHATS[True] * 2, "test.jsonl": CHATS[True]},
        "v1": {"README.md": b"", "train.jsonl": CHATS[False] * 2, "test.jsonl": CHATS[False]},
    }),
    "own/several": Repository({"main": {"README.md": HEAD, "one.jsonl": PAIRS["one"], "two.jsonl": PAIRS["two"]}}),
}  # fmt: skip

E2E_TASK = {"type": "generation", "benchmark": "e2e"}
WEBNLG_TASK = {"type": "generation", "benchmark": "webnlg"}
TOKENS = {"type": "tokens"}
CASES: dict[str, dict[str, Any]] = {
    "a script": E2E_TASK,
    "a script again": E2E_TASK,
    "a configuration": WEBNLG_TASK,
    "a configuration again": WEBNLG_TASK,
    "the conversion by name": {**E2E_TASK, "revision": CONVERSION},
    "a script at a revision": {**E2E_TASK, "revision": "main"},
    "a script that is not converted": {**E2E_TASK, "path": "own/unconverted"},
    "several configurations": {**E2E_TASK, "path": "webnlg-challenge/web_nlg"},
    "numbers of a known data set": {**TOKENS, "path": "tner/bionlp2004"},
    "numbers that the column names": {**TOKENS, "path": "jnlpba/jnlpba"},
    "numbers without names": {**TOKENS, "path": "own/unnamed"},
    "stored elsewhere": {**E2E_TASK, "path": "own/stored"},
    "slow": {**E2E_TASK, "path": "own/slow"},
    "gated": {**E2E_TASK, "path": "own/gated"},
    "not there": {**E2E_TASK, "path": "own/nothing"},
    "the newest": {"type": "chat", "path": "own/chats"},
    "a revision": {"type": "chat", "path": "own/chats", "revision": "v1"},
    "a configuration of chats": {"type": "chat", "path": "own/several", "configuration": "two"},
    "another configuration of chats": {"type": "chat", "path": "own/several", "configuration": "one"},
    "no configuration of chats": {"type": "chat", "path": "own/several", "configuration": "mine"},
    "the only configuration of a conversion": {**TOKENS, "path": "tner/bionlp2004", "configuration": "mine"},
    "no such revision": {"type": "chat", "path": "own/chats", "revision": "v9"},
}
# One process for all of them: what the hub's clients know of their address they read when they are imported.
PROGRAM = """
import json, sys
from autolora.configs.errors import UserError
from autolora.configs.schema import Autolora
from autolora.problems.tasks import make_task
for name, values in json.load(sys.stdin).items():
    try:
        task = make_task(Autolora(name="a", task=values))
        rows = task.rows()
        found = {"train": rows.train.to_list(), "split": list(rows.evaluation), "origin": task.origin()}
    except UserError as error:
        found = {"error": str(error)}
    print("found", json.dumps([name, found]), flush=True)
"""


def outcomes(address: str, home: Path, cases: dict[str, Any], offline: str = "0") -> dict[str, dict[str, Any]]:
    own = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_OFFLINE": offline, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps(cases), env=os.environ | own, cwd=home, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line.removeprefix("found ") for line in done.stdout.splitlines() if line.startswith("found ")]
    return dict(json.loads(line) for line in lines)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def found(home: Path) -> Callable[[str], dict[str, Any]]:
    """found("a script"): what became of a case."""
    with serving(REPOSITORIES) as hub:
        made = outcomes(hub.address, home, CASES)
    return lambda case: made[case]


slow = pytest.mark.slow  # a process that asks the small hub for everything, and one without it


@slow
@pytest.mark.parametrize("case", ["a script", "a script again", "the conversion by name", "stored elsewhere", "slow"])
def test_a_benchmark_loads(found: Callable[[str], dict[str, Any]], case: str) -> None:
    assert found(case).get("error") is None
    assert found(case)["train"] == [
        {"source": "name : Blue Spice | area : riverside", "target": "Blue Spice is by the river."}
    ]
    assert found(case)["split"] == ["test"]


@slow
@pytest.mark.parametrize("case", ["a configuration", "a configuration again"])
def test_the_named_configuration_of_a_conversion_loads(found: Callable[[str], dict[str, Any]], case: str) -> None:
    assert found(case).get("error") is None
    assert found(case)["train"] == [{"source": "Aarhus : leaderName : Jacob", "target": "Jacob leads Aarhus."}]


@slow
def test_numbers_of_tags_have_their_names(found: Callable[[str], dict[str, Any]]) -> None:
    known, told = found("numbers of a known data set"), found("numbers that the column names")
    assert known == {
        "train": [{"tokens": ["IL-2", "gene", "binds"], "tags": ["B-protein", "I-protein", "O"]}],
        "split": ["test"], "origin": "--task.path: tner/bionlp2004",
    }  # fmt: skip
    assert told["train"] == [{"tokens": ["mRNA", "x"], "tags": ["B-RNA", "O"]}]
    assert told["split"] == ["validation"]


@slow
def test_a_revision_of_the_data_is_taken(found: Callable[[str], dict[str, Any]]) -> None:
    assert "new" in json.dumps(found("the newest"))
    assert "old" in json.dumps(found("a revision"))


@slow
def test_the_configuration_of_chats_is_taken(found: Callable[[str], dict[str, Any]]) -> None:
    for case, name in (("a configuration of chats", "two"), ("another configuration of chats", "one")):
        assert found(case).get("error") is None
        assert all(f"of {name}" in json.dumps(row) for row in found(case)["train"])
    assert found("the only configuration of a conversion") == found("numbers of a known data set")


@slow
@pytest.mark.parametrize(
    ("case", "words"),
    [
        (
            "a script at a revision",
            ("--task.revision: tuetschek/e2e_nlg is made by a script at 'main'", "leave the key out"),
        ),
        ("a script that is not converted", ("--task.path: own/unconverted is made by a script", "has not converted")),
        ("several configurations", ("(release_v3.0_en, webnlg_challenge_2017); this task reads",)),
        (
            "no configuration of chats",
            ("--task.configuration: 'mine' is not allowed; own/several has the configurations one, two",),
        ),
        (
            "numbers without names",
            ("split 'train' of own/unnamed, row 1 (counted from 1): column 'tags' holds the number 3",),
        ),
        ("gated", ("cannot load 'own/gated, e2e'", "gated dataset", "authenticated")),
        ("not there", ("cannot load 'own/nothing, e2e'", "doesn't exist")),
        ("no such revision", ("cannot load 'own/chats'", "v9")),
    ],
)
def test_what_cannot_be_loaded_is_one_line(
    found: Callable[[str], dict[str, Any]], case: str, words: tuple[str, ...]
) -> None:
    line = found(case).get("error", "")
    assert len(line.splitlines()) == 1
    for word in words:
        assert word in line


@slow
def test_what_was_loaded_once_needs_no_hub(found: Callable[[str], dict[str, Any]], home: Path) -> None:
    cases = {
        name: CASES[name]
        for name in ("a script", "a configuration", "numbers of a known data set", "a configuration of chats")
    }
    again = outcomes("http://127.0.0.1:1", home, cases, "1")
    for name in cases:
        assert again[name] == found(name)
