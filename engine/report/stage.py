"""Write report.html, one self-contained page about a run, from nothing but the files of its folder."""

from pathlib import Path
from typing import Any

from bokeh.plotting import figure

from autolora.configs.files import to_yaml
from autolora.configs.schema import Autolora, RunConfig
from autolora.engine.disk.files import write_text
from autolora.engine.ranks import RankRecord
from autolora.engine.ranks.grid import NOT_DECIDED
from autolora.engine.ranks.picture import save_picture
from autolora.engine.ranks.words import how_chosen, steadiness
from autolora.engine.report import charts, figures
from autolora.engine.report.answer import Answer
from autolora.engine.report.answer_charts import answer_charts
from autolora.engine.report.answer_figures import draw_answer
from autolora.engine.report.costs import costs_of
from autolora.engine.report.curves import SearchCurves, page_data
from autolora.engine.report.files import RunFiles, files_of
from autolora.engine.report.page import inline_image, render
from autolora.engine.report.predicted import predicted_of
from autolora.engine.report.verdict import draw_verdict, verdict_chart
from autolora.engine.run.contents import read_answer, read_samples
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.logged import warnings_in

_STOPPED = {
    "steps used up": "The search ended because it had taken all of its steps (search.steps).",
    "ranks settled": "The search ended early: no rank had changed over search.patience checks.",
}
"""Value of `stopped` in search/summary.json -> why the search ended, for the page."""


def write_report(config: RunConfig, folder: RunFolder) -> dict[str, Path]:
    """Writes figures/*.png and report.html; returns the paths of the figures by name.

    The page has no sections for stages that have not run yet."""
    files = files_of(folder)
    pictures = (
        draw(files.record, files.curves, files.search_metrics, folder)
        | draw_answer(files.answer, folder.figures)
        | draw_verdict(files.verdict, folder.figures)
        | draw_retraining(files.retraining, folder.figures)
    )
    made = (
        run_charts(files.record, files.curves, files.search_metrics, files.answer)
        | verdict_chart(files.verdict)
        | retraining_chart(files.retraining)
    )
    page = render(
        "report.html.j2",
        charts=made,
        name=config.name,
        sentence=_sentence(config, files.record),
        config=folder.config.read_text(encoding="utf-8") if folder.config.exists() else to_yaml(config),
        images={name: inline_image(path) for name, path in pictures.items()},
        **_of_search(files, folder),
        **_of_result(files, folder),
    )
    write_text(folder.report, page)
    return pictures


def _of_search(files: RunFiles, folder: RunFolder) -> dict[str, Any]:
    """The values of the page's template that tell of the search and of the ranks."""
    record, curves = files.record, files.curves
    return {
        "data": page_data(curves) if curves else None,
        "note": record.note if record else None,
        "answer": files.answer,
        "how_chosen": how_chosen(record, sum(files.sizes.values())) if record else "",
        "trust": steadiness(record) if record else "",
        "not_decided": NOT_DECIDED,
        "stopped": _STOPPED.get(files.search.get("stopped", ""), ""),
        "passes": files.search.get("passes", {}),
        "layer_names": curves.names if curves else [],
        "by_threshold": curves is not None and curves.bounds is not None,
        "layers": record.layers if record else (),
    }


def _of_result(files: RunFiles, folder: RunFolder) -> dict[str, Any]:
    """The values of the page's template that tell of the retraining, its cost and the verdict."""
    return {
        "facts": _facts(files.record, files.result),
        "warnings": warnings_in(folder),
        "predicted": predicted_of(folder),
        "samples": read_samples(folder.samples),
        "verdict": files.verdict,
        "costs": costs_of(files.result, files.search, read_answer(folder.answer)),
        "versions": _computed_on(files.result),
    }


def run_charts(
    record: RankRecord | None, curves: SearchCurves | None, metrics: list[dict[str, Any]], answer: Answer | None = None
) -> dict[str, figure]:
    """The interactive charts for which the folder has data: id of an element of the page -> chart."""
    made: dict[str, figure | None] = {}
    if record is not None:
        # A ranks.json written by hand may hold other layers than the search, or hold them in another order.
        places = {name: i for i, name in enumerate(curves.names)} if curves is not None else None
        made |= answer_charts(answer, places)
        made["rank-map"] = charts.rank_map(record, places)
    if record is not None and curves is not None:
        made["alpha-chart"] = charts.layer_curves("alpha", curves)
        made["contribution-chart"] = charts.layer_curves("contribution", curves)
        if curves.ranks is not None:
            made["evolution"] = charts.rank_evolution(curves, record.k)
        if [x.name for x in record.layers if x.alpha and len(x.alpha) == len(x.contribution)] == curves.names:
            made["scatter"] = charts.contribution_against_alpha(record)
    if metrics:
        blue, orange, green = charts.BLUE, charts.ORANGE, charts.GREEN
        losses = {"train_loss": ("L_tr (D_tr)", blue), "val_loss": ("L_val (D_val)", orange)}
        made["losses"] = charts.metric_lines("losses", "loss", metrics, losses)
        ratio = {"implicit_to_direct": ("|implicit| / |direct|", green)}
        made["ratio"] = charts.metric_lines("ratio", "ratio", metrics, ratio, y_axis_type="log")
        if made["ratio"] is not None:  # first_order has no implicit term, and so no direction to compare
            cosine = {"cosine": ("cosine of implicit and direct", orange)}
            made["cosine"] = charts.metric_lines("cosine", "cosine", metrics, cosine, y_range=(-1.05, 1.05))
    return {name: chart for name, chart in made.items() if chart is not None}


def retraining_chart(points: list[dict[str, Any]]) -> dict[str, figure]:
    """The chart of the retraining's training loss; empty if there was no retraining."""
    losses = {"loss": ("loss", charts.BLUE)}
    made = charts.metric_lines("retrain-loss", "loss", points, losses) if points else None
    return {} if made is None else {"retrain-loss": made}


def draw_retraining(points: list[dict[str, Any]], folder: Path) -> dict[str, Path]:
    """Draws the retraining's training loss as a picture; returns its path by name."""
    if not points:
        return {}
    figures.losses(points, folder / "retrain_loss.png", {"loss": "training loss"})
    return {"retrain_loss": folder / "retrain_loss.png"}


def draw(
    record: RankRecord | None, curves: SearchCurves | None, metrics: list[dict[str, Any]], folder: RunFolder
) -> dict[str, Path]:
    """Draws the figures for which the folder has data. The page shows them in a browser that runs no scripts."""
    if record is None:
        return {}
    pictures = {"rank_map": folder.figures / "ranks.png"}
    save_picture(record, pictures["rank_map"])
    if curves is not None:
        pictures["trajectories"] = folder.figures / "alpha.png"
        figures.alpha_trajectories(curves, pictures["trajectories"])
        if curves.ranks is not None:
            pictures["rank_evolution"] = folder.figures / "rank_evolution.png"
            figures.rank_evolution(curves, record.k, pictures["rank_evolution"])
    if metrics:
        pictures["losses"] = folder.figures / "losses.png"
        figures.losses(metrics, pictures["losses"])
    return pictures


def _sentence(config: RunConfig, record: RankRecord | None) -> str:
    """One sentence: the model, the task, the method, and the mean rank."""
    task = config.task.result_name
    if record is None:
        return f"{config.model.name} on {task}, method {config.method}."
    size = f"{len(record.layers)} layers, mean rank {record.mean_in_words}"
    if not isinstance(config, Autolora):
        return f"LoRA on {config.model.name} on {task}, method {config.method}: {size}."
    made = f"constraint {record.constraint}, hypergradient {config.hypergradient.type}"
    return f"LoRA ranks of {config.model.name} on {task}: {size}, {made}."


def _facts(record: RankRecord | None, result: dict[str, Any]) -> list[tuple[str, str]]:
    # A held-out part of the training file is called validation, too, which D_val is not.
    where = "" if result.get("evaluated_on") else f" ({result.get('split')})"
    facts = [(f"{k}{where}", f"{v:.4f}") for k, v in result.get("metrics", {}).items()]
    if error := result.get("standard_error"):
        facts[0] = (facts[0][0], f"{facts[0][1]} +- {error:.4f}")
    if rows := result.get("evaluated_rows"):
        facts[0] = (f"{facts[0][0]}, {rows:,} rows", facts[0][1])
    if result.get("evaluated_on"):
        facts.insert(0, ("evaluated on", result["evaluated_on"]))
    if result.get("loss") is not None:
        facts.append((f"loss{where}", f"{result['loss']:z.4f}"))
    if record is not None:
        facts.append(("mean rank", f"{record.mean_rank:.2f}"))
    if result:
        facts += [
            ("method", result["method"]),
            ("LoRA parameters", f"{result['lora_parameters']:,}"),
            ("trainable parameters", f"{result['trainable_parameters']:,}"),
            ("peak memory, MiB", f"{result['peak_memory_mib']:,.0f}"),
            *([("seed", str(result["seed"]))] if "seed" in result else []),
        ]
    return facts


def _computed_on(result: dict[str, Any]) -> list[str]:
    """A line about the device, and one about the versions; empty if metrics.json has none."""
    parts = result.get("machine") or {}, {"commit": result.get("commit")} | result.get("versions", {})
    lines = (", ".join(f"{name} {value}" for name, value in part.items() if value) for part in parts)
    return [line for line in lines if line]
