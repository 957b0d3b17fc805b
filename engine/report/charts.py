"""Interactive charts of one search (Bokeh). To show the chosen layer, page.js finds charts and sources by name."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from bokeh.models import BasicTicker, ColumnDataSource, FixedTicker, HoverTool, Range1d
from bokeh.models.annotations import Legend, LegendItem, Span
from bokeh.palettes import Category10, Category20, Viridis256
from bokeh.plotting import figure

from autolora.engine.ranks import RankRecord
from autolora.engine.ranks.grid import NOT_DECIDED, Grid, grid_of, short_names
from autolora.engine.ranks.picture import ink_on, pale, rank_colour
from autolora.engine.report.curves import SearchCurves, limits_of, stretches

# Colours that are readable on white and on black. The two losses have the same colours on every page.
BLUE, ORANGE, GREEN, GREY = "#3b82c4", "#e08214", "#2f9e6e", "#888888"


def chart(name: str, x_label: str, y_label: str, *, height: int = 300, **options: Any) -> figure:
    """An empty chart as wide as the page. Dragging does not move it, so that a touch screen can scroll the page."""
    options |= dict.fromkeys(("background_fill_color", "border_fill_color", "outline_line_color", "active_drag"))
    made = figure(
        name=name, height=height, sizing_mode="stretch_width", tools="box_zoom,pan,reset",
        x_axis_label=x_label, y_axis_label=y_label, **options,
    )  # fmt: skip
    made.toolbar.logo = None
    made.toolbar.autohide = True
    return made


def source_of(table: pd.DataFrame, name: str | None = None) -> ColumnDataSource:
    """The columns of a table as a data source, which page.js finds by `name`."""
    return ColumnDataSource({str(column): values.to_list() for column, values in table.items()}, name=name)


def lines(made: figure, source: ColumnDataSource, columns: dict[str, tuple[str, str]]) -> None:
    """Draws a line for each column -> (label, colour), with one legend below the chart and one tooltip for all."""
    drawn: dict[str, list[Any]] = {
        column: [made.line("step", column, source=source, color=colour, line_width=2)]
        for column, (_, colour) in columns.items()
    }
    steps = list(source.data["step"])
    if len(steps) > 1:
        made.x_range = Range1d(min(steps), max(steps))  # the axis ends where the search ends
    else:  # a single point draws no line, so it gets a marker
        for column, (_, colour) in columns.items():
            drawn[column].append(made.scatter("step", column, source=source, color=colour, size=7))
    if len(drawn) <= 20:
        legend_below(made, {columns[column][0]: shown for column, shown in drawn.items()})
    tips = [("step", "@step"), *((label, f"@{{{column}}}{{0.0000}}") for column, (label, _) in columns.items())]
    first = next(iter(drawn.values()))
    made.add_tools(HoverTool(renderers=first[-1:], tooltips=tips[:25], mode="vline", line_policy="nearest"))


def legend_below(made: figure, drawn: Mapping[str, list[Any]]) -> None:
    """Adds a legend below a chart. `drawn`: label -> the lines and points that it names, which a click on it hides."""
    items = [LegendItem(label=label, renderers=renderers) for label, renderers in drawn.items()]
    legend = Legend(items=items, orientation="horizontal", ncols=min(4, len(items)), click_policy="hide")
    legend.background_fill_color = legend.border_line_color = None
    legend.location, legend.inactive_fill_color, legend.inactive_fill_alpha = "top_left", GREY, 0.5
    legend.stylesheets = [".bk-label { color: var(--text) !important; }"]
    made.add_layout(legend, "below")


def rank_map(record: RankRecord, places: Mapping[str, int] | None = None) -> figure:
    """The ranks as in the paper's Figure 3: a column per block of the model, a row per projection.

    The cell of an undecided rank is pale, with a dashed edge. A click on a cell shows the curves of its layer.
    `places`: layer -> its index in SearchCurves; None: the curves have the order of the record.
    """
    layers = record.layers
    grid = grid_of([x.name for x in layers])
    source = _rank_cells(record, grid, places)
    blocks, projections = len(grid.blocks), len(grid.projections)
    ranges = {"x_range": (-0.5, blocks - 0.5), "y_range": (projections - 0.5, -0.5)}
    made = chart("rank-map", "block", "", height=110 + 34 * projections, **ranges)
    tiles = made.rect(
        "x", "y", 0.94, 0.9, source=source, fill_color="colour", line_color="edge", line_dash=[3, 3],
        nonselection_fill_alpha=1.0, nonselection_line_alpha=1.0,
    )  # fmt: skip
    made.text(
        "x", "y", "rank", source=source, text_color="ink", text_align="center", text_baseline="middle",
        text_font_size="11px", nonselection_text_alpha=1.0,
    )  # fmt: skip
    tick_names(made.xaxis[0], grid.blocks, 16)
    tick_names(made.yaxis[0], grid.projections, projections)
    made.grid.visible = False
    tips = [("layer", "@layer"), ("rank", "@rank")]
    tips += [("decided", "@decided")] if any(x.decided is not None for x in layers) else []
    made.add_tools(HoverTool(tooltips=tips, renderers=[tiles]), "tap")
    return made


def _rank_cells(record: RankRecord, grid: Grid, places: Mapping[str, int] | None) -> ColumnDataSource:
    """The cells of the rank map: their place, layer and rank, and their colours."""
    layers, unsure = record.layers, record.undecided
    most = max(record.k, *(x.rank for x in layers))  # ranks that no search chose may exceed k
    colours = [rank_colour(x.rank, most) for x in layers]
    return ColumnDataSource(
        {
            "x": [block for block, _ in grid.cells],
            "y": [projection for _, projection in grid.cells],
            "index": [i if places is None else places.get(x.name, -1) for i, x in enumerate(layers)],
            "layer": [x.name for x in layers],
            "rank": [x.rank for x in layers],
            "colour": [pale(colour) if not_sure else colour for colour, not_sure in zip(colours, unsure, strict=True)],
            "ink": ["black" if not_sure else ink_on(x.rank, most) for x, not_sure in zip(layers, unsure, strict=True)],
            "edge": [GREY if not_sure else "#00000000" for not_sure in unsure],
            "decided": ["" if x.decided is None else "yes" if x.decided else NOT_DECIDED for x in layers],
        },
        name="rank-cells",
    )


def tick_names(axis: Any, names: Sequence[str], most: int) -> None:
    """Labels an axis with at most `most` of the names, evenly spread, the first at 0. Long names are cut at their
    beginning."""
    shown = range(0, len(names), -(-len(names) // most))
    axis.ticker = FixedTicker(ticks=list(shown))
    axis.major_label_overrides = {i: names[i] if len(names[i]) <= 24 else f"…{names[i][-23:]}" for i in shown}
    axis.minor_tick_line_color = None


def layer_curves(kind: Literal["alpha", "contribution"], curves: SearchCurves) -> figure:
    """The k curves of the first layer over the steps. The axis has the range of all layers, so that layers can be
    compared, and for alpha that of lambda."""
    values: np.ndarray = getattr(curves, kind)
    k = values.shape[2]
    limits = curves.alpha_limits if kind == "alpha" else limits_of(values)
    columns: dict[str, Any] = {"step": curves.steps, **{f"c{j}": values[:, 0, j] for j in range(k)}}
    made = chart(f"{kind}-chart", "step", kind, height=360, y_range=limits)
    colours = _palette(k)
    source = ColumnDataSource(columns, name=f"{kind}-curves")
    lines(made, source, {f"c{j}": (str(j + 1), colours[j]) for j in range(k)})
    if kind == "alpha" and curves.bounds is not None:
        made.add_layout(_dashed(curves.bounds[0], "width", line_width=1.5, name="lambda"))
    return made


def _palette(k: int) -> Sequence[str]:
    if k <= 10:
        return Category10[10]
    return Category20[20] if k <= 20 else [Viridis256[round(j * 255 / (k - 1))] for j in range(k)]


def _dashed(at: float, dimension: Literal["width", "height"], **options: Any) -> Span:
    return Span(location=float(at), dimension=dimension, line_dash="dashed", line_color=GREY, **options)


def rank_evolution(curves: SearchCurves, k: int) -> figure:
    """The rank of every layer over the steps: a row per layer, steps from left to right."""
    names = short_names(curves.names)
    found = pd.DataFrame(stretches(curves), columns=["index", "left", "right", "rank"])
    found = found.assign(
        top=found["index"] - 0.48,
        bottom=found["index"] + 0.48,
        layer=[names[layer] for layer in found["index"]],
        colour=[rank_colour(rank, k) for rank in found["rank"]],
    )
    ranges = {
        "y_range": (len(names) - 0.5, -0.5),
        "x_range": (float(found["left"].min()), float(found["right"].max())),
    }
    made = chart("evolution", "step", "", height=90 + max(120, min(14 * len(names), 760)), **ranges)
    made.quad(
        left="left", right="right", top="top", bottom="bottom", fill_color="colour", line_color=None,
        nonselection_fill_alpha=1.0, source=source_of(found, "rank-stretches"),
    )  # fmt: skip
    tick_names(made.yaxis[0], names, 54)
    made.yaxis.major_label_text_font_size = "10px"
    made.grid.visible = False
    tips = [("layer", "@layer"), ("rank", "@rank"), ("from step", "@left"), ("to", "@right")]
    made.add_tools(HoverTool(tooltips=tips), "tap")
    return made


def contribution_against_alpha(record: RankRecord) -> figure:
    """A point for every component at the end of the search; rings mark those of the chosen layer."""
    names = short_names([x.name for x in record.layers])
    points = [
        (alpha, size, index, names[index], component + 1)
        for index, x in enumerate(record.layers)
        for component, (alpha, size) in enumerate(zip(x.alpha, x.contribution, strict=True))
    ]
    components = pd.DataFrame(points, columns=["alpha", "contribution", "index", "layer", "component"])
    made = chart("scatter", "alpha", "contribution  alpha |B| |A|", height=360)
    dots = made.scatter(
        "alpha", "contribution", source=source_of(components, "components"), size=6, color=BLUE, alpha=0.55,
        line_color=None, nonselection_fill_alpha=0.55,
    )  # fmt: skip
    chosen = ColumnDataSource({"alpha": [], "contribution": []}, name="chosen-components")
    made.scatter("alpha", "contribution", source=chosen, size=11, fill_color=None, line_color=ORANGE, line_width=2)
    tips = [("layer", "@layer"), ("component", "@component"), ("alpha", "@alpha{0.0000}")]
    tips.append(("contribution", "@contribution{0.0000}"))
    made.add_tools(HoverTool(tooltips=tips, renderers=[dots]), "tap")
    if record.threshold is not None:
        made.add_layout(_dashed(record.threshold, "height"))
    return made


def metric_lines(
    name: str, label: str, metrics: Sequence[dict[str, Any]], columns: dict[str, tuple[str, str]], **options: Any
) -> figure | None:
    """A chart of columns of metrics.jsonl over the steps; None if these columns hold no number."""
    logarithmic = options.get("y_axis_type") == "log"
    numbers = np.linspace(0, len(metrics) - 1, min(len(metrics), 1000)).round().astype(int)
    chosen = pd.DataFrame([metrics[i] for i in numbers])
    values = chosen.reindex(columns=list(columns)).astype(float)
    if logarithmic:
        values = values.where(values > 0)
    if values.isna().all(axis=None):
        return None
    made = chart(name, "step", label, height=260, **options)
    lines(made, ColumnDataSource(values.assign(step=chosen["step"])), columns)
    if not logarithmic:
        made.yaxis.ticker = BasicTicker(desired_num_ticks=5)
    return made
