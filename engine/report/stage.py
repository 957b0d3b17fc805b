"""report.html: one self-contained page about a run, from the files of its folder alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from bokeh.plotting import figure

from configs.files import to_yaml
from configs.schema import RunConfig
from engine import ranks
from engine.disk.files import read_json, write_text
from engine.ranks import RankRecord
from engine.ranks.rules import RankRule
from engine.report import charts, figures
from engine.report.curves import SearchCurves, curves_of, page_data
from engine.report.page import inline_image, render
from engine.run.folder import RunFolder
from engine.search import trajectory
from engine.study.charts import metric_charts
from engine.study.summary import SEED, axes_of, rows_of, summarise
from engine.tracking.metrics_file import MetricsFile


def write_report(config: RunConfig, folder: RunFolder) -> dict[str, Path]:
    """Draws figures/*.png and report.html; returns the figures by name. What a stage has not written yet is left
    out."""
    record = ranks.load(folder.ranks) if folder.ranks.exists() else None
    result = read_json(folder.metrics)
    search = read_json(folder.search_summary)
    metrics = MetricsFile(folder.search_metrics).read() if record else []
    curves = searched(record, folder, search)
    pictures = draw(record, curves, metrics, folder)
    study, study_chart = beside(folder)
    page = render(
        "report.html.j2",
        charts=run_charts(record, curves, metrics) | study_chart,
        data=page_data(curves) if curves else None,
        name=config.name,
        sentence=_sentence(config, record),
        facts=_facts(record, result),
        study=study,
        costs=_costs(result, search),
        passes=search.get("passes", {}),
        versions=result.get("versions", {}),
        layer_names=curves.names if curves else [],
        by_threshold=curves is not None and curves.bounds is not None,
        layers=[
            {"name": x.name, "rank": x.rank, "alpha": "  ".join(f"{a:.3f}" for a in x.alpha)}
            for x in (record.layers if record else ())
        ],
        config=folder.config.read_text(encoding="utf-8") if folder.config.exists() else to_yaml(config),
        images={name: inline_image(path) for name, path in pictures.items()},
    )
    write_text(folder.report, page)
    return pictures


def searched(record: RankRecord | None, folder: RunFolder, search: dict[str, Any]) -> SearchCurves | None:
    """The curves of the run's search; None when it has none."""
    if record is None or not folder.trajectory.exists():
        return None
    sizes = search.get("parameters_per_rank", {})
    # Of a budget one must know what a component of each layer costs; a threshold looks at alpha alone.
    known = record.rule == "threshold" or (record.budget is not None and sizes)
    rule = RankRule(record.constraint, sizes, record.budget) if known else None  # type: ignore[arg-type]
    return curves_of(trajectory.read(folder.trajectory), rule)


def run_charts(
    record: RankRecord | None, curves: SearchCurves | None, metrics: list[dict[str, Any]]
) -> dict[str, figure]:
    """The interactive charts that the folder's files allow, by the id of their place in the page."""
    made: dict[str, figure | None] = {}
    if record is not None:
        # A record written by hand may know other layers than the search, in another order.
        places = {name: i for i, name in enumerate(curves.names)} if curves is not None else None
        made["rank-map"] = charts.rank_map(record, places)
    if record is not None and curves is not None:
        made["alpha-chart"] = charts.layer_curves("alpha", "alpha", curves)
        made["contribution-chart"] = charts.layer_curves("contribution", "contribution", curves)
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
        cosine = {"cosine": ("cosine of implicit and direct", orange)}
        made["cosine"] = charts.metric_lines("cosine", "cosine", metrics, cosine, y_range=(-1.05, 1.05))
    return {name: chart for name, chart in made.items() if chart is not None}


def beside(folder: RunFolder) -> tuple[dict[str, Any] | None, dict[str, figure]]:
    """The study that the run is a cell of: its table with this run's row marked, and its chart."""
    results = folder.root.parent.parent / "results.parquet"
    if folder.root.parent.name != "cells" or not results.exists():
        return None, {}
    table = pd.read_parquet(results)
    axes, own = axes_of(table), table[table["cell"] == folder.root.name]
    # Its task's runs; where results.parquet does not know the run (not collected yet), all of them.
    alike = table[table["task"].isin(own["task"])] if len(own) else table
    summary = summarise(alike, axes)
    mine = rows_of(summarise(own, axes))[0] if len(own) else []
    keys = len([axis for axis in axes if axis != SEED]) or 1
    rows = [(row, row[:keys] == mine[:keys]) for row in rows_of(summary)]
    charts = metric_charts(alike, axes)
    study = {"name": results.parent.name, "columns": list(summary.columns), "rows": rows, "charts": list(charts)}
    return study, charts


def draw(
    record: RankRecord | None, curves: SearchCurves | None, metrics: list[dict[str, Any]], folder: RunFolder
) -> dict[str, Path]:
    """figures/: what the folder's files allow. They are what a page shows where no script runs."""
    if record is None:
        return {}
    pictures = {"rank_map": folder.figures / "ranks.png"}
    figures.rank_map(record, pictures["rank_map"])
    if curves is not None:
        pictures["trajectories"] = folder.figures / "alpha.png"
        bounds = None if curves.bounds is None else curves.bounds.tolist()
        figures.alpha_trajectories(curves, bounds, pictures["trajectories"])
        if curves.ranks is not None:
            pictures["rank_evolution"] = folder.figures / "rank_evolution.png"
            figures.rank_evolution(curves, record.k, pictures["rank_evolution"])
    if metrics:
        pictures["losses"] = folder.figures / "losses.png"
        figures.losses(metrics, pictures["losses"])
    return pictures


def _sentence(config: RunConfig, record: RankRecord | None) -> str:
    task = config.task.name or config.task.type
    if record is None:
        return f"{config.model.name} on {task}, method {config.method}."
    note = f" ({record.note})" if record.note else ""
    if config.method != "autolora":
        return (
            f"LoRA on {config.model.name} on {task}, method {config.method}: {len(record.layers)} layers, mean rank "
            f"{record.mean_rank:.2f}{note}."
        )
    return (
        f"LoRA ranks of {config.model.name} on {task}: {len(record.layers)} layers, mean rank "
        f"{record.mean_rank:.2f} of k = {record.k}, constraint {record.constraint}, "
        f"hypergradient {config.hypergradient.type}{note}."
    )


def _facts(record: RankRecord | None, result: dict[str, Any]) -> list[tuple[str, str]]:
    facts = [(f"{k} ({result['split']})", f"{v:.4f}") for k, v in result.get("metrics", {}).items()]
    if record is not None:
        facts.append(("mean rank", f"{record.mean_rank:.2f}"))
    if result:
        facts += [
            ("method", result["method"]),
            ("LoRA parameters", f"{result['lora_parameters']:,}"),
            ("trainable parameters", f"{result['trainable_parameters']:,}"),
            ("peak memory, MiB", f"{result['peak_memory_mib']:,.0f}"),
        ]
    return facts


def _costs(result: dict[str, Any], search: dict[str, Any]) -> list[dict[str, Any]]:
    """Seconds, steps and share of the time of each stage."""
    seconds = result.get("seconds", {"search": search.get("seconds")})
    steps = result.get("steps", {"search": search.get("steps")})
    known = {stage: seconds[stage] for stage in ("search", "retrain") if seconds.get(stage) is not None}
    total = sum(known.values()) or 1.0
    return [
        {"stage": stage, "seconds": f"{spent:,.1f}", "steps": f"{steps.get(stage) or 0:,}", "share": spent / total}
        for stage, spent in known.items()
    ]
