"""The commands in the README and on the pages under docs/: the program reads each, and none has a key in vain."""

import importlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.parser import parse_command
from autolora.configs.requests import Request
from benchmarks.command import parse_settings
from tests.helpers.markdown import PAGES, blocks, text_of
from tests.helpers.shell import commands
from tests.helpers.unread import told

COMMANDS = [(page, words) for page in PAGES for block in blocks(text_of(page), "bash") for words in commands(block)]
# What a reader puts in place of the letters in docs/memory.md.
LETTERS = {"B": "4", "T": "32", "D": "bf16", "C": "true"}


def case(page: Path, words: list[str], *values: Any) -> Any:
    return pytest.param(*values, id=f"{page.name}: {' '.join(words)}")


PROGRAM = [
    case(page, words, words[at + 1 :])
    for page, words in COMMANDS for at, word in enumerate(words) if Path(word).name == "run.py"
]  # fmt: skip
BENCHMARKS = [
    case(page, words, module, words[at + 2 :])
    for page, words in COMMANDS for at, (option, module) in enumerate(pairwise(words))
    if option == "-m" and module.startswith("benchmarks.")
]  # fmt: skip


@pytest.mark.parametrize("arguments", PROGRAM)
def test_a_command_is_read_and_nothing_in_it_is_unread(
    arguments: list[str], log_lines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a configuration that it names is a shipped one
    request = parse_command(arguments)
    if isinstance(request, Request):
        told(request)
    assert log_lines == []


@pytest.mark.parametrize(("module", "arguments"), BENCHMARKS)
def test_a_command_of_a_benchmark_is_read(
    module: str, arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = importlib.import_module(module)
    if hasattr(found, "__path__"):
        found = importlib.import_module(f"{module}.__main__")
    (settings,) = (
        value for name, value in vars(found).items()
        if name.endswith("Settings") and getattr(value, "__module__", "") == found.__name__
    )  # fmt: skip
    parse_settings(settings, [LETTERS.get(word, word) for word in arguments])


@pytest.mark.parametrize("name", ["run.py", "benchmarks."])
def test_no_block_is_passed_over(name: str) -> None:
    for page in PAGES:
        for block in blocks(text_of(page), "bash"):
            assert (name in block) == any(name in word for words in commands(block) for word in words), block
        assert len(blocks(text_of(page), "bash")) == text_of(page).count("```bash")


def test_the_words_of_a_command_are_those_that_a_shell_starts() -> None:
    block = """
cat > a.py <<'END'
print("it's no command")
END
DATA="--task.path a b"  # it's a comment
for seed in 0 1; do
    uv run run.py --name a-$seed $DATA \\
        --axes '{"$seed": [0],
 "# b": 1}' > out.txt
done
echo 'c; d' >> a.py; run "e # f" --g "[h]" | wc
"""
    axes = ["--axes", '{"$seed": [0],\n "# b": 1}']
    assert commands(block) == [
        ["cat"],
        *(["uv", "run", "run.py", "--name", f"a-{seed}", "--task.path", "a", "b", *axes] for seed in (0, 1)),
        ["echo", "c; d"], ["run", "e # f", "--g", "[h]"], ["wc"],
    ]  # fmt: skip
    with pytest.raises(KeyError, match="unset"):
        commands("run $unset")
