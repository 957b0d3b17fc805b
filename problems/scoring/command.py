"""`python run.py --score KIND --hyp FILE --ref FILE [--json OUT]`: the official metrics of files, and nothing else."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from autolora.configs.errors import UserError
from autolora.configs.plain import plain
from autolora.problems.machine.console import PlainConsole
from autolora.problems.scoring.e2e import score_e2e
from autolora.problems.scoring.files import read_grouped
from autolora.problems.scoring.names import check_metrics
from autolora.problems.scoring.ner import score_ner
from autolora.problems.scoring.ner_files import read_ner
from autolora.problems.scoring.webnlg import score_webnlg
from autolora.problems.scoring.webnlg_files import read_webnlg

# The kinds scale BLEU differently: each as its official script does.
_SCALE: dict[str, dict[str, str]] = {
    "e2e": {"BLEU": "0 to 1", "NIST": "0 up", "METEOR": "0 to 1", "ROUGE_L": "0 to 1", "CIDEr": "0 to 10"},
    "webnlg": {"BLEU": "0 to 100", "METEOR": "0 to 1", "TER": "0 up, less is better"},
    "ner": {"precision": "0 to 1", "recall": "0 to 1", "f1": "0 to 1"},
}


def score(
    kind: str, hyp: str, ref: str, json_out: str | None = None, metrics: Sequence[str] | None = None
) -> dict[str, float]:
    """Scores files, prints a table and writes OUT, a JSON object from metric name to value.

    kind: e2e, webnlg or ner; the values and their units are those of score_e2e, score_webnlg and score_ner.
    hyp, ref: see read_grouped (e2e), read_webnlg (ref may be a folder or a stem of parallel files) and read_ner.
    metrics: some of METRICS[kind]; None: all. For webnlg with known categories the result also has "BLEU.seen" etc.,
    for ner "protein.f1" etc. Raises UserError on anything the user must change; looks for Java before any work.
    """
    chosen = check_metrics(kind, metrics, "--metrics")
    if json_out is not None:
        _check_out(Path(json_out), hyp, ref)
    console = PlainConsole()
    with console.status(Text(f"scoring {hyp} ...")):
        scores = _score_files(kind, hyp, ref, chosen)
    console.print(_table(kind, hyp, scores))
    if json_out is not None:
        _write_json(Path(json_out), scores)
    return scores


def _score_files(kind: str, hyp: str, ref: str, metrics: Sequence[str]) -> dict[str, float]:
    """Reads and scores one pair."""
    if kind == "e2e":
        return score_e2e(*read_grouped(hyp, ref), metrics)
    if kind == "webnlg":
        texts = read_webnlg(hyp, ref)
        return score_webnlg(texts.hyps, texts.refs, metrics, texts.categories)
    found = score_ner(*read_ner(hyp, ref))
    return {name: value for name, value in found.items() if name.rpartition(".")[2] in metrics}


def _table(kind: str, hyp: str, scores: dict[str, float]) -> Table:
    """The scores with four digits, for the terminal; OUT has all digits."""
    table = Table(title=plain(f"{kind}: {Path(hyp).name}"))
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("scale", style="dim")
    for name, value in scores.items():
        measure = name.rpartition(".")[2] if kind == "ner" else name.partition(".")[0]
        table.add_row(plain(name), f"{value:.4f}", _SCALE[kind][measure])
    return table


def _check_out(out: Path, *sources: str) -> None:
    """Raises UserError when `out` is a folder or one of the files that are scored."""
    if out.is_dir():
        raise UserError(f"--json {out}: is a folder; name a file")
    if os.path.realpath(out) in map(os.path.realpath, sources):
        raise UserError(f"--json {out}: is one of the files that are scored; name another")


def _write_json(path: Path, scores: dict[str, float]) -> None:
    """Writes the file whole or not at all; writes directly into a device or a pipe, as /dev/stdout.

    Renaming a file to the name of a device would replace the device for all programs.
    """
    text = json.dumps(scores, indent=2) + "\n"
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        if path.exists() and not path.is_file():
            path.write_text(text, encoding="utf-8")
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(target)
    except OSError as error:
        raise UserError(f"--json {path}: cannot be written ({error.strerror})") from None
