"""What looks at files alone waits for no library that takes seconds to load: --show, --help, cheap refusals."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from autolora.configs.files import of_folder
from autolora.configs.parser import parse
from autolora.engine.disk.files import write_json, write_text
from autolora.engine.ranks import save
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.manifest import Stage, names_of
from autolora.engine.search.trajectory import Trajectory
from autolora.engine.study.folder import StudyFolder
from tests.helpers.finished import RESULT
from tests.helpers.places import ROOT
from tests.helpers.rank_records import answered_record

HEAVY = (
    "torch",
    "transformers",
    "peft",
    "datasets",
    "pandas",
    "scipy",
    "sklearn",
    "betty",
    "wandb",
    "matplotlib",
)
PROGRAM = f"""
import json, sys
import run
found = []
for argv in json.loads(sys.argv[1]):
    try:
        code = run.main(argv)
    except SystemExit as ended:  # after --help
        code = ended.code
    found.append([code, [name for name in {HEAVY} if name in sys.modules]])
print()
print(json.dumps(found))
"""


def commands(root: Path, model: Path) -> list[tuple[list[str], int, str]]:
    """Command lines, the exit code of each, and a word of what it says."""
    config = parse(["--runs_folder", str(root), "--model.name", str(model)]).config
    done, going, study = RunFolder(root / "done"), RunFolder(root / "going"), StudyFolder(root / "study")
    record = answered_record()
    save(record, done.ranks)
    write_json(done.metrics, RESULT | {"method": "autolora"})
    write_text(done.report, "")
    for path in (done.search_summary, done.measured, done.trained):
        write_json(path, {"parameters_per_rank": {}})
    for name in ("search", "measure", "choose", "retrain", "evaluate"):
        Stage.of(name, config, done).begin({}, names_of(config), {})
    history = Trajectory([layer.name for layer in record.layers])
    for step in range(40):
        history.steps.append(step)
        history.alpha.append(np.full((3, 2), 0.5, np.float32))
        history.contribution.append(np.zeros((3, 2), np.float32))
    history.write(done.trajectory)
    for folder in (done, going, study):
        write_text(folder.config, of_folder(config))
    write_text(going.search_metrics, '{"step": 7, "train_loss": 0.5, "val_loss": 0.25, "mean_rank": 2.0}\n')
    write_json(RunFolder(study.cells / "seed-0").metrics, RESULT)
    write_text(RunFolder(study.cells / "seed-0").config, "")
    write_text(
        study.config, yaml.safe_dump(yaml.safe_load(study.config.read_text()) | {"study": {"axes": {"seed": [0, 1]}}})
    )
    run = ["--runs_folder", str(root), "--model.name", str(model), "--tracking.wandb", "disabled"]
    table = ["--task.type", "text", "--task.path", str(root / "nosuch.csv")]
    return [
        (["--help"], 0, "--config"),
        (["--show", str(done.root)], 0, "accuracy 0.5000"),
        (["--show", str(going.root)], 0, "search: step 7 of 100   L_tr 0.500   L_val 0.250   mean rank 2.00"),
        (["--show", str(study.root)], 0, "1 of 2 cells have finished"),
        (["--config", "nosuch.yaml"], 2, "no file 'nosuch.yaml'"),
        ([*run, "--name", "done"], 0, "was finished before, and nothing is done"),
        ([*run, "--name", "a", *table], 2, "--task.path: no file"),
        ([*run, "--name", "a", *table, "--task.metrics", "[f1]"], 2, "--task.metrics: 'f1' is not allowed"),
        ([*run, "--name", "a", "--task.type", "foo"], 2, "--task.type: 'foo' is not allowed"),
    ]


@pytest.mark.trains
def test_what_needs_no_library_loads_none(
    tmp_path: Path, model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    asked = commands(tmp_path / "runs", model_folder("bert"))
    argv = json.dumps([words for words, _, _ in asked])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, argv], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert [(words, code, loaded) for (words, _, _), (code, loaded) in zip(asked, found, strict=True)] == [
        (words, code, []) for words, code, _ in asked
    ]
    for words, _, said in asked:
        assert said in done.stdout + done.stderr, words
    assert not (tmp_path / "runs" / "a").exists()
