"""A stage is a function of its inputs: of each stage and kind of input, work made from another one
is refused by name, and nothing is mixed or changed."""

import os
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tests.contract.conftest import Chat, Finished, Models, Tiny
from tests.contract.inputs import once, own_table
from tests.contract.program import Fork, refused, succeed
from tests.contract.readers import everything, read
from tests.helpers.chat_toys import CHATML
from tests.helpers.tiny import MEASURED, tiny_arguments


@dataclass
class Half:
    """A run that was stopped in a stage: its command, its folder, and the folder of what it
    reads."""

    stage: str
    argv: list[str]
    root: Path
    inputs: Path

    def is_refused(self, named: str, *more: str) -> None:
        """The command with further words is one line that has this name, and the run stays as it
        was."""
        before = everything(self.root)
        assert named in refused(*once([*self.argv, *more]))
        assert everything(self.root) == before


MANY = "4000"
"""More steps than a test waits for, and few enough that a check which fails ends."""
STAGES: dict[str, tuple[str, ...]] = {
    "search": (
        "--search.steps",
        MANY,
        "--search.patience",
        "0",
        "--hypergradient.type",
        "{here}/mine.py:Mine",
    ),
    "retrain": (
        "--method",
        "lora_ranks",
        "--lora.ranks_from",
        "{here}/learned",
        "--retrain.init",
        "{here}/learned",
        "--retrain.max_steps",
        MANY,
    ),
    "sweep": (
        "--method",
        "lora",
        "--retrain.learning_rate",
        "[1e-3,1e-2]",
        "--retrain.max_steps",
        MANY,
    ),
}
OWN = """from autolora.configs import search
from autolora.problems.hypergradients import Darts


class Mine(Darts):
    def __init__(self):
        super().__init__(search.Darts())
"""


@pytest.fixture(scope="module")
def stopped(
    model_folder: Models, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Half]:
    """stopped("retrain"): a run that was stopped in this stage, made once; each test leaves it as
    it was."""

    @cache
    def make(stage: str) -> Half:
        here = tmp_path_factory.mktemp("half")
        shutil.copytree(model_folder("bert"), here / "model")
        (here / "mine.py").write_text(OWN)
        own = own_table(here)
        if stage == "retrain":
            succeed(
                *once(
                    [
                        *tiny_arguments(here / "model", here),
                        *own,
                        "--name",
                        "learned",
                        "--stage",
                        "search",
                    ]
                )
            )
            shutil.move(here / "runs" / "learned", here / "learned")
        given = [word.replace("{here}", str(here)) for word in STAGES[stage]]
        argv = once([*tiny_arguments(here / "model", here), *own, *given])
        root = here / "runs" / "tiny"
        process = Fork(argv, here / "out.txt")
        begun = {"search": "search/metrics.jsonl"}.get(stage, f"{stage}/manifest.json")
        process.wait_for((root / begun).exists)
        assert process.kill(signal.SIGTERM) == 143, process.said()
        return Half(stage, argv, root, here)

    return make


@pytest.fixture(params=STAGES)
def half(request: pytest.FixtureRequest, stopped: Callable[[str], Half]) -> Half:
    """A run that was stopped in each stage."""
    return stopped(request.param)


SETTINGS: dict[str, dict[str, str]] = {
    "search": {
        "--seed": "1",
        "--search.learning_rate": "0.5",
        "--search.batch_size": "4",
        "--lora.k": "2",
        "--task.validation_share": "0.25",
        "--task.max_length": "64",
        "--search.constraint": "sigmoid",
        "--hypergradient.options": "{a: 1}",
        "--lora.target_modules": "[query]",
    },
    "retrain": {
        "--seed": "1",
        "--retrain.batch_size": "4",
        "--retrain.learning_rate": "0.5",
        "--retrain.init": "scratch",
    },
    "sweep": {
        "--seed": "1",
        "--retrain.batch_size": "4",
        "--retrain.learning_rate": "[0.1,0.2]",
        "--lora.r": "2",
    },
}


def test_another_setting_is_refused_by_its_key(half: Half) -> None:
    for key, value in SETTINGS[half.stage].items():
        half.is_refused(key, key, value)


def rewrite(pattern: str, by: str) -> Callable[[Path], object]:
    """Changes the first place of a text file that the pattern fits."""
    return lambda path: path.write_text(re.sub(pattern, by, path.read_text(), count=1))


def other_weights(path: Path) -> None:
    save_file(
        {name: weight * 1.1 for name, weight in load_file(path).items()}, path, {"format": "pt"}
    )


CHANGES: dict[str, Callable[[Path], object]] = {
    "other text": rewrite("dull", "tasty"),
    "other label": rewrite(",bad", ",good"),
    "other order": rewrite(r"(.*,bad\n)(.*,good\n)", r"\2\1"),
    "one row more": rewrite(r"\Z", "a room,bad\n"),
    "other rank": rewrite(r'"rank": \d', '"rank": 0'),
    "other program": rewrite(r"\Z", "    second_order = False\n"),
    "other weights": other_weights,
}
INPUTS = [
    *(
        ("search", "train.csv", change)
        for change in ("other text", "other label", "other order", "one row more")
    ),
    ("retrain", "train.csv", "other text"),
    ("sweep", "train.csv", "other label"),
    ("retrain", "dev.csv", "other text"),
    *((stage, "model/model.safetensors", "other weights") for stage in STAGES),
    ("retrain", "learned/ranks.json", "other rank"),
    ("retrain", "learned/search/weights.safetensors", "other weights"),
    ("search", "mine.py", "other program"),
]


@pytest.mark.parametrize(("half", "file", "change"), INPUTS, indirect=["half"])
def test_another_input_is_refused_by_its_file(half: Half, file: str, change: str) -> None:
    """Of a base model, which is refused by its key, as when a hub's main branch has moved on."""
    path = half.inputs / file
    kept = shutil.copy2(path, path.with_name(f"{path.name}.kept"))
    try:
        CHANGES[change](path)
        half.is_refused("--model.name" if file.startswith("model/") else file)
    finally:
        os.replace(kept, path)


@pytest.mark.parametrize("half", ["search"], indirect=True)
def test_what_is_read_under_another_name_is_the_same(half: Half) -> None:
    """Rows in a file that was moved, and evaluation rows, which a search does not read."""
    moved = half.inputs / "elsewhere.csv"
    shutil.copy2(half.inputs / "train.csv", moved)
    process = Fork(
        once([*half.argv, "--task.path", str(moved), "--task.evaluation_rows", "4"]),
        half.inputs / "2.txt",
    )
    line = half.root / "search" / "metrics.jsonl"
    before = line.read_text()
    process.wait_for(lambda: line.read_text() != before)
    assert process.kill(signal.SIGTERM) == 143, process.said()
    assert line.read_text().startswith(before)


def test_another_template_is_another_input(
    chat: Chat, finished_chat: Path, tmp_path: Path, folder: Path
) -> None:
    (tmp_path / "other.jinja").write_text(CHATML.replace("<|im_start|>", "<|im_start|> "))
    shutil.copytree(finished_chat, folder)
    argv = chat(export__merged="true")
    before = everything(folder)
    succeed(*argv)
    assert "training rows" in refused(*argv, "--task.chat_template", tmp_path / "other.jinja")
    assert everything(folder) == before


def test_another_rule_chooses_anew_and_measures_nothing(
    tiny: Tiny, done: Path, folder: Path
) -> None:
    """--overwrite begins with the stages that are of this command, as hard links."""
    given = (
        *MEASURED,
        "--choose.rule",
        "shares",
        "--choose.budget",
        "1",
        "--search.check_every",
        "null",
    )
    assert "choose was made with --choose.rule threshold" in refused(*tiny(*given))
    before = everything(folder)
    succeed(*tiny(*given, "--overwrite"))
    after = everything(folder)
    assert all(
        after[name] == before[name] for name in before if name.startswith(("search/", "measure/"))
    )
    assert read(folder / "ranks.json")["rule"] == "shares"
    assert everything(folder.parent / "tiny.old-1") == before
    succeed(*tiny(*given, "--overwrite"))
    assert everything(folder) == after, "nothing differs, and nothing is done"


def test_a_finished_run_is_evaluated_anew_and_the_earlier_result_kept(
    tiny: Tiny, done: Path, folder: Path
) -> None:
    before = everything(folder)
    given = (*MEASURED, "--task.evaluation_rows", "32")
    assert "--task.evaluation_rows 64" in refused(*tiny(*given))
    succeed(*tiny(*given, "--stage", "evaluate"))
    assert read(folder / "metrics.json")["evaluated_rows"] == 32
    after = everything(folder)
    weights = "adapter/adapter_model.safetensors"
    assert after["evaluate.old-1/metrics.json"] == before["metrics.json"]
    assert after[weights] == before[weights]
    succeed(*tiny(*given))
    assert everything(folder) == after


def test_another_evaluation_of_ranks_that_no_search_found_trains_nothing(
    tiny: Tiny, folder: Path
) -> None:
    """The ranks belong to what the training has left."""
    given = ("--method", "lora")
    succeed(*tiny(*given))
    before = everything(folder)
    succeed(*tiny(*given, "--task.evaluation_rows", "32", "--overwrite"))
    after = everything(folder)
    assert read(folder / "metrics.json")["evaluated_rows"] == 32
    for name in ("ranks.json", "adapter/adapter_model.safetensors", "retrain/summary.json"):
        assert after[name] == before[name], name
    assert everything(folder.parent / "tiny.old-1") == before


def test_ranks_of_other_rows_are_not_retrained_by_stage_all(
    tiny: Tiny, folder: Path, tmp_path: Path
) -> None:
    """By --stage retrain, which takes ranks.json as it is, they are."""
    argv = tiny(*own_table(tmp_path), "--task.evaluation_rows", "null")
    succeed(*argv, "--stage", "search")
    before = everything(folder)
    CHANGES["one row more"](tmp_path / "train.csv")
    assert "train.csv" in refused(*argv)
    assert everything(folder) == before
    succeed(*argv, "--stage", "retrain", "--choose.tolerance", "0.2")
    assert (folder / "metrics.json").exists()
    assert read(folder / "config.yaml")["choose"]["tolerance"] == 0.05, (
        "the ranks were chosen by this one"
    )


def test_overwrite_makes_new_results_and_keeps_the_old_ones(
    tiny: Tiny, done: Path, folder: Path
) -> None:
    (folder / "notes.txt").write_text("mine")
    before = everything(folder)
    assert "--retrain.max_steps" in refused(*tiny(*MEASURED, "--retrain.max_steps", "2"))
    assert everything(folder) == before
    for steps, old in ((2, "tiny.old-1"), (3, "tiny.old-2")):
        succeed(*tiny("--overwrite", "--retrain.max_steps", steps))
        assert read(folder / "metrics.json")["steps"]["retrain"] == steps
        assert max(path.name for path in folder.parent.iterdir()) == old
    assert everything(folder.parent / "tiny.old-1") == before
    assert "accuracy" in succeed("--show", folder.parent / "tiny.old-1")


def test_a_folder_of_the_users_is_not_taken_for_a_run(
    tiny: Tiny, folder: Path, tmp_path: Path
) -> None:
    for name in ("trials/a.txt", "retrain/b.txt", "config.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    tiny()  # it writes its usual keys into a file there
    before = everything(tmp_path)
    for more in ((), ("--overwrite",)):
        refused(*tiny(*more))
        assert everything(tmp_path) == before


def test_ranks_of_another_method_are_not_taken_for_ranks_by_hand(
    tiny: Tiny, finished: Finished, folder: Path
) -> None:
    """A search over a finished run of plain LoRA chooses its own ranks."""
    shutil.copytree(finished("--method", "lora"), folder)
    before = everything(folder)
    for more in ((), ("--stage", "search")):
        assert "another method" in refused(*tiny(*more))
        assert everything(folder) == before
    succeed(*tiny("--overwrite"))
    assert read(folder / "ranks.json")["rule"] == "threshold"
    assert everything(folder.parent / "tiny.old-1") == before


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("gpt2", ("--method", "lora", "--lora.target_modules", "[c_attn.q,c_attn.v]")),
        ("bert", ("--method", "full")),
        ("bert", ("--method", "adapter")),
        ("bert", ("--method", "adalora", "--retrain.max_steps", "12")),
    ],
)
def test_what_was_trained_is_evaluated_as_it_was(
    tiny: Tiny, folder: Path, kind: str, more: tuple[str, ...]
) -> None:
    succeed(*tiny(*more, kind=kind))
    before = read(folder / "metrics.json")
    for rows in ("32", "64"):
        succeed(*tiny(*more, "--task.evaluation_rows", rows, "--stage", "evaluate", kind=kind))
    after = read(folder / "metrics.json")
    assert after["metrics"] == before["metrics"]
    assert after["loss"] == pytest.approx(before["loss"], rel=1e-5)
