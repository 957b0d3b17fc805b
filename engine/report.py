"""report.html: one self-contained page about a run, from the files of its folder alone."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment, FileSystemLoader

from configs.cli import to_yaml
from configs.schema import RunConfig
from engine import figures, ranks, trajectory
from engine.rank_rules import thresholds
from engine.ranks import RankRecord
from engine.run_folder import RunFolder, write_text
from engine.tracking import MetricsFile

_PAGES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)


def write_report(config: RunConfig, folder: RunFolder) -> dict[str, Path]:
    """Draws figures/*.png and report.html; returns the figures by name. What a stage has not written yet is left
    out."""
    record = ranks.load(folder.ranks) if folder.ranks.exists() else None
    pictures = draw(record, folder)
    result = json.loads(folder.metrics.read_text(encoding="utf-8")) if folder.metrics.exists() else {}
    page = render(
        "report.html.j2",
        name=config.name,
        sentence=_sentence(config, record),
        facts=_facts(record, result),
        layers=[
            {"name": x.name, "rank": x.rank, "alpha": "  ".join(f"{a:.3f}" for a in x.alpha)}
            for x in (record.layers if record else ())
        ],
        config=folder.config.read_text(encoding="utf-8") if folder.config.exists() else to_yaml(config),
        **{name: inline_image(path) for name, path in pictures.items()},
    )
    write_text(folder.report, page)
    return pictures


def draw(record: RankRecord | None, folder: RunFolder) -> dict[str, Path]:
    """The figures that the folder's files allow."""
    if record is None:
        return {}
    pictures = {"rank_map": folder.figures / "ranks.png"}
    figures.rank_map(record, pictures["rank_map"])
    if folder.trajectory.exists():
        history = trajectory.read(folder.trajectory)
        pictures["trajectories"] = folder.figures / "alpha.png"
        bounds = thresholds(torch.from_numpy(np.array(history.alpha[-1])), record.constraint)  # type: ignore[arg-type]
        figures.alpha_trajectories(history, bounds.flatten().tolist(), pictures["trajectories"])
    lines = MetricsFile(folder.search_metrics).read()
    if lines:
        pictures["losses"] = folder.figures / "losses.png"
        figures.losses(lines, pictures["losses"])
    return pictures


def _sentence(config: RunConfig, record: RankRecord | None) -> str:
    task = config.task.name or config.task.type
    if record is None:
        return f"{config.model.name} on {task}, method {config.method}."
    if config.method != "autolora":
        note = f" ({record.note})" if record.note else ""
        return (
            f"LoRA on {config.model.name} on {task}, method {config.method}: {len(record.layers)} layers, mean rank "
            f"{record.mean_rank:.2f}{note}."
        )
    return (
        f"LoRA ranks of {config.model.name} on {task}: {len(record.layers)} layers, mean rank "
        f"{record.mean_rank:.2f} of k = {record.k}, constraint {record.constraint}, "
        f"hypergradient {config.hypergradient.type}."
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
            *((f"seconds, {stage}", f"{s:.1f}") for stage, s in result["seconds"].items() if s is not None),
            *((f"steps, {stage}", f"{s:,}") for stage, s in result["steps"].items() if s is not None),
            ("peak memory, MiB", f"{result['peak_memory_mib']:,.0f}"),
            *((f"version of {package}", version) for package, version in result["versions"].items()),
        ]
    return facts


def render(template: str, **values: Any) -> str:
    """A page of this folder; everything put into it is escaped."""
    return _PAGES.get_template(template).render(**values)


def inline_image(path: Path) -> str:
    """A PNG as a data: address, so that the page needs no other file."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode("ascii")
