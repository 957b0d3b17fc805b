"""The interactive charts of the answer: the share of each layer, and what lower ranks keep of the gain."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from bokeh.models import FixedTicker, HoverTool
from bokeh.models.annotations import Span
from bokeh.plotting import figure

from autolora.engine.report.answer import KEPT_AXIS, Answer, share_axis
from autolora.engine.report.charts import BLUE, GREY, ORANGE, chart, legend_below, source_of, tick_names

OPAQUE, PALE = 0.7, 0.2
"""Opacity of a bar whose share is above noise, and of one whose share is not."""


def answer_charts(answer: Answer | None, places: Mapping[str, int] | None) -> dict[str, figure]:
    """The charts for which the answer has data: id of an element of the page -> chart.

    `places`: as in `charts.rank_map`."""
    made = {}
    if answer is not None and len(answer.shares):
        made["shares"] = shares(answer, places)
    if answer is not None and answer.curve:
        made["curve"] = curve(answer)
    return made


def shares(answer: Answer, places: Mapping[str, int] | None = None) -> figure:
    """A bar with its 90 % interval for each layer, in the model's order; a share that is not above noise is pale.

    A click on a bar shows the layer's curves."""
    found, count = answer.shares, len(answer.shares)
    source = source_of(
        found.assign(
            y=range(count),
            alpha=[OPAQUE if seen else PALE for seen in found["seen"]],
            index=[i if places is None else places.get(name, -1) for i, name in enumerate(found["layer"])],
        ),
        "share-bars",
    )
    low, high = min(0.0, found["low"].min()), max(0.0, found["high"].max())
    margin = 0.03 * (high - low) or 1.0
    made = chart(
        "shares", share_axis(answer), "", height=110 + max(100, min(18 * count, 820)),
        y_range=(count - 0.5, -0.5), x_range=(low - margin, high + margin),
    )  # fmt: skip
    bars = made.hbar(
        y="y", right="share", height=0.7, source=source, fill_color=BLUE, fill_alpha="alpha", line_color=None,
        nonselection_fill_alpha="alpha",
    )  # fmt: skip
    made.segment("low", "y", "high", "y", source=source, line_color=ORANGE, line_width=2, nonselection_line_alpha=1.0)
    made.add_layout(Span(location=0, dimension="height", line_color=GREY, line_width=1))
    tick_names(made.yaxis[0], list(found["short"]), 66)
    made.yaxis.major_label_text_font_size = "11px"
    made.ygrid.visible = False
    tips = [("layer", "@layer"), ("share", "@share{0.00}"), ("90 % interval", "@low{0.00} to @high{0.00}")]
    made.add_tools(HoverTool(tooltips=tips, renderers=[bars]), "tap")
    return made


def curve(answer: Answer) -> figure:
    """The kept part of the gain, in percent, against LoRA parameters, with 90 % bands.

    One line is for the same rank in every layer, one for a budget of components over all layers. Dashed: the part that
    is enough. Dotted: the parameters of the recorded ranks."""
    every = pd.concat(answer.curve.values())
    ends = [every["parameters"].min(), every["parameters"].max(), answer.parameters or every["parameters"].max()]
    made = chart(
        "curve", "LoRA parameters", KEPT_AXIS, height=360, x_axis_type="log",
        x_range=(min(ends) / 1.25, max(ends) * 1.25), y_range=(-5, max(106.0, every["high"].max() + 4)),
    )  # fmt: skip
    drawn: dict[str, list[Any]] = {}
    dots: list[Any] = []
    for (label, cuts), colour in zip(answer.curve.items(), (BLUE, ORANGE), strict=False):
        source = source_of(cuts)
        band = made.varea("parameters", "low", "high", source=source, fill_color=colour, fill_alpha=0.2)
        line = made.line("parameters", "kept", source=source, color=colour, line_width=2)
        dots.append(made.scatter("parameters", "kept", source=source, color=colour, size=7))
        drawn[label] = [line, dots[-1], band]
    enough = Span(location=answer.wanted, dimension="width", line_dash="dashed", line_color=GREY, name="enough")
    made.add_layout(enough)
    if answer.parameters:
        made.add_layout(Span(location=answer.parameters, dimension="height", line_dash="dotted", line_color=GREY))
    ticks: dict[Any, Any] = {**rank_ticks(answer)}
    made.xaxis.ticker = FixedTicker(ticks=list(ticks), minor_ticks=[])
    made.xaxis.major_label_overrides = ticks
    made.xgrid.visible = False
    legend_below(made, drawn)
    tips = [("average rank", "@at"), ("LoRA parameters", "@parameters{0,0}"), ("kept", "@kept{0.0} %")]
    made.add_tools(HoverTool(renderers=dots, tooltips=[*tips, ("90 % interval", "@low{0.0} to @high{0.0} %")]))
    return made


def rank_ticks(answer: Answer) -> dict[int, str]:
    """Ticks of an axis of LoRA parameters: parameters -> label, one tick for each average rank of the curve."""
    found = sorted({float(at) for cuts in answer.curve.values() for at in cuts["at"]})
    counts = {at: int(at * answer.per_rank) for at in found}
    return {count: f"{_short(count)}\nrank {at:g}" for at, count in counts.items() if count}


def _short(count: int) -> str:
    """The count in short, as `9.2k` or `1.3M`."""
    return next((f"{count / unit:.2g}{sign}" if count < 10 * unit else f"{count / unit:.0f}{sign}"
                 for unit, sign in ((1_000_000, "M"), (1_000, "k")) if count >= unit), str(count))  # fmt: skip
