"""Show a study in the terminal: how many cells are finished, their table, and the paths of the files."""

from collections.abc import Iterable

from autolora.configs.files import load_config
from autolora.configs.schema import RunConfig
from autolora.engine.disk.tables import read_columns
from autolora.engine.run.contents import read_result
from autolora.engine.run.failure import failure_of
from autolora.engine.run.folder import RunFolder
from autolora.engine.study.cells import expand
from autolora.engine.study.combinations import combinations
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.lacking import COLUMNS, TITLE, without_result
from autolora.engine.study.markdown import markdown
from autolora.engine.study.names import cell_names
from autolora.engine.terminal.console import console


def print_study(folder: StudyFolder) -> None:
    """Prints how many cells are finished, and the table or, if it is not written yet, the finished cells' results."""
    begun = sorted(path.parent for path in folder.cells_begun)
    config = load_config(folder.config) if folder.config.exists() else None
    study = None if config is None else config.study
    if study is not None:  # cells of values that the study no longer has do not count
        names = set(cell_names(list(combinations(study))))
        begun = [root for root in begun if root.name in names]
    finished = [root for root in begun if RunFolder(root).metrics.exists()]
    count = len(begun) if study is None else len(names)
    failed = _failures(folder, {root.name for root in begun} if study is None else names)
    half_done = sum(root.name not in failed for root in begun) - len(finished)
    told = f", {len(failed)} failed" if failed else ""
    console.print(f"{len(finished)} of {count} cells are finished, {half_done} half-done{told}")
    for name, why in failed.items():
        console.print(f"  {name}  failed: {why}", highlight=False, soft_wrap=True)
    if folder.table.exists():
        if folder.results.exists() and (other := _other_cells(folder, {root.name for root in finished})):
            console.print(other, highlight=False, soft_wrap=True)
        print_table(folder, _as_of_now(folder, config))
        return
    for root in finished:
        metrics = read_result(RunFolder(root).metrics)["metrics"]
        name, value = next(iter(metrics.items()))
        console.print(f"  {root.name}  {name} {value:.4f}", highlight=False, soft_wrap=True)


def _failures(folder: StudyFolder, names: Iterable[str]) -> dict[str, str]:
    """Name -> reason, of the unfinished cells among `names` that have failed."""
    unfinished = (RunFolder(folder.cells / name) for name in sorted(names))
    return {run.root.name: why for run in unfinished if not run.metrics.exists() and (why := failure_of(run))}


def _other_cells(folder: StudyFolder, finished: set[str]) -> str | None:
    """A line that says which cells the table below lacks, or has too many; None if it is of the finished cells."""
    shown = _cells_shown(folder)
    parts = {"lacks": finished - shown, "still has": shown - finished}
    words = [f"{verb} {_few(sorted(names))}" for verb, names in parts.items() if names]
    return f"the table below was written earlier: it {' and '.join(words)}" if words else None


def _cells_shown(folder: StudyFolder) -> set[str]:
    """The cells whose results the study's tables show."""
    found = read_columns(folder.results, "--stage report writes it again", texts=["cell"])["cell"]
    return set(found.to_pylist())


def _as_of_now(folder: StudyFolder, config: RunConfig | None) -> str:
    """The study's table.md. Its last table, of the cells without a result, says why they have none now: other cells
    may have begun since the file was written."""
    text = folder.table.read_text(encoding="utf-8")
    before, title, _ = text.rpartition(f"## {TITLE}\n")
    if not title or config is None or not folder.results.exists():
        return text
    lacking = without_result(expand(config, folder), _cells_shown(folder))
    return f"{before}{title}\n{markdown(COLUMNS, lacking)}"


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def print_table(folder: StudyFolder, text: str | None = None) -> None:
    """Prints the table and the paths of a study's files. `text`: of the table; None: that of table.md."""
    text = folder.table.read_text(encoding="utf-8") if text is None else text
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    for path in (folder.table, folder.results, folder.report):
        console.print(f"  {path}", highlight=False, soft_wrap=True)
