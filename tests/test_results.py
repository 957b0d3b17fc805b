"""The notebook: each table in results/ is what the CSV beside it says, and each number there names
its commit."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import wilcoxon

from tests.helpers.command import parse
from tests.helpers.markdown import RESULTS, blocks, text_of
from tests.helpers.paths import ROOT
from tests.helpers.shell import commands

Table = list[list[str]]
"""Rows of cells; the first row is the head, and its first cell says what the rows are."""
FOLDER = ROOT / "results"
TASKS = {"sst2": "SST-2", "stsb": "STS-B", "mrpc": "MRPC", "qqp": "QQP"}
WAY_TASKS = TASKS | {"e2e": "E2E"}
BUDGETS = ("0.25", "0.5", "1", "4")
PLACED = {f"shares {budget}": f"{budget} shuffled" for budget in BUDGETS} | {
    "threshold": "threshold shuffled"
}
"""Learned ranks -> the same ranks in other layers."""


def printed(page: Path) -> list[Table]:
    """The tables of a page."""
    parts: list[Table] = [[]]
    for line in text_of(page).splitlines():
        if not line.startswith("|"):
            parts.append([])
        elif set(line) - set("|- "):
            parts[-1].append([cell.strip() for cell in line.strip("|").split("|")])
    return [part for part in parts if part]


def table(rows: str, frame: pd.DataFrame) -> Table:
    """A frame of cells as a table."""
    return [
        [rows, *frame.columns],
        *([str(line[0]), *line[1:]] for line in frame.itertuples(name=None)),
    ]


def with_error(values: pd.Series, digits: int) -> str:
    """Mean +- standard error; of one value, only that."""
    error = f" +- {values.sem():.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{error}"


def stored(name: str) -> list[Table]:
    """The tables of a CSV that has a line for each cell; none if there is no such file yet."""
    if not (FOLDER / f"{name}.csv").exists():
        return []
    cells = pd.read_csv(FOLDER / f"{name}.csv", dtype=str, keep_default_na=False)
    errors = " +- " + cells["error"]
    ranges = " (" + cells["low"] + " to " + cells["high"] + ")"
    cells["cell"] = (
        cells["value"]
        + errors.where(cells["error"] != "", "")
        + ranges.where(cells["low"] != "", "")
    )
    made = []
    for head, part in cells.groupby("table", sort=False):
        wide = part.pivot(index="row", columns="column", values="cell").fillna("")
        made.append(table(str(head), wide.loc[part["row"].unique(), part["column"].unique()]))
    return made


def table1_runs() -> pd.DataFrame:
    """The runs of table1.csv. At seed 3 of MRPC the search learned nothing, and every layer got
    rank 1: this counts as budget 1 alone."""
    runs = pd.read_csv(FOLDER / "table1.csv")
    others = [
        name
        for budget in ("0.25", "0.5", "4")
        for name in (f"shares {budget}", f"{budget} shuffled")
    ]
    return runs[~((runs["task"] == "mrpc") & (runs["seed"] == 3) & runs["variant"].isin(others))]


def advantages(learned: str) -> pd.Series:
    """By how much learned ranks are better than the same ranks in other layers, for each task and
    seed, in percent of the task's gain: the mean loss of the head alone minus that of the learned
    ranks. Equal ranks are no pair."""
    found = {}
    for task, runs in table1_runs().groupby("task"):
        losses = runs.pivot(index="seed", columns="variant", values="log_loss")
        ranks = runs.pivot(index="seed", columns="variant", values="ranks")
        pairs = ranks[learned].notna() & (ranks[learned] != ranks[PLACED[learned]])
        gain = (losses["head"] - losses[learned]).mean()
        found[TASKS[str(task)]] = (100 * (losses[PLACED[learned]] - losses[learned]) / gain)[pairs]
    return pd.concat(found)


def table1() -> list[Table]:
    """Losses at equal size, and learned ranks against their shuffles."""
    runs = table1_runs()
    runs = runs[~runs["variant"].isin(["lora_modules", "rslora 4", *PLACED.values()])]
    sizes = runs.groupby("variant", sort=False)["lora_parameters"].mean().sort_values(kind="stable")
    losses = runs.groupby(["variant", "task"])["log_loss"].agg(with_error, digits=3).unstack()
    means = losses.loc[sizes.index, list(TASKS)].rename(columns=TASKS)
    means.insert(0, "LoRA parameters", sizes.map("{:,.0f}".format))
    better = {learned: advantages(learned) for learned in PLACED}
    p = pd.Series(
        {learned: wilcoxon(values).pvalue for learned, values in better.items()}
    ).sort_values()
    holm = (p * np.arange(len(p), 0, -1)).cummax().clip(upper=1)
    tests = {
        "seeds in which they are better": {
            name: f"{(of > 0).sum()} of {len(of)}" for name, of in better.items()
        },
        "better by, % of LoRA's gain": {name: with_error(of, 1) for name, of in better.items()},
        "p": p.map("{:.2g}".format),
        "p, Holm": holm.map("{:.2g}".format),
    }
    of_tests = table("learned ranks against their shuffle", pd.DataFrame(tests).loc[list(PLACED)])
    return [table("ranks", means), of_tests]


def seeds() -> list[Table]:
    """How far two seeds agree, by the Spearman correlation over the layers."""
    runs = table1_runs()
    cells = {}
    shares = runs[runs["variant"] == "threshold"].assign(
        variant="the layers' shares", ranks=runs["shares"]
    )
    shown = [*shares["variant"].unique(), *PLACED, "eva", "para", "adalora"]
    for (variant, task), part in pd.concat([shares, runs]).groupby(["variant", "task"]):
        if variant in shown:
            layers = part["ranks"].str.split(expand=True).astype(float).T
            pairs = pd.Series(
                layers.corr("spearman").to_numpy()[np.triu_indices(len(part), 1)]
            ).dropna()
            cells[variant, TASKS[task]] = (
                f"{pairs.mean():.2f} ({pairs.min():.2f} to {pairs.max():.2f})"
            )
    wide = pd.Series(cells).unstack().loc[shown, list(TASKS.values())]
    return [table("agreement of two seeds", wide), *stored("seeds")]


def enough() -> list[Table]:
    """What a training at the rank called enough loses beside rank 8, in percent of what rank 8
    gains."""
    own = pd.read_csv(FOLDER / "enough.csv").query("method != 'autolora'")
    other = pd.read_csv(FOLDER / "table1.csv").query(
        "variant in ['head', 'rank 1', 'rank 2', 'rank 4', 'rank 8']"
    )
    other = other.assign(
        rank=other["variant"].str[5:].replace("", "0").astype(int), loss=other["log_loss"]
    )
    called = pd.read_csv(FOLDER / "enough_called.csv").dropna(subset="rank").astype({"rank": int})
    columns: dict[str, dict[str, str]] = {}
    multiples = []
    for (study, task), searches in called.groupby(["study", "task"], sort=False):
        runs = (
            own[own["task"] == f"enough-{task}"]
            if study == "enough"
            else other[other["task"] == task]
        )
        losses = runs.pivot(index="seed", columns="rank", values="loss")
        lost = 100 * losses.sub(losses[8], axis=0) / (losses[0] - losses[8]).mean()
        below = searches[searches["rank"] < 8]
        multiples += [
            [lost.loc[one.seed, min(8, n * one.rank)] for n in (1, 2, 4)]
            for one in below.itertuples()
        ]
        if study == "enough":
            found = pd.Series([lost.loc[one.seed, one.rank] for one in searches.itertuples()])
            shown = {f"rank {rank}": lost[rank] for rank in (1, 2, 4)} | {
                "the rank called enough": found
            }
            columns[TASKS[str(task)]] = {
                name: with_error(values, 1) for name, values in shown.items()
            }
    of_all = pd.DataFrame(
        multiples, columns=["the rank called enough", "twice that rank", "four times that rank"]
    )
    rows = {
        "searches that lost more than 5 %": (of_all > 5)
        .sum()
        .map(lambda count: f"{count} of {len(of_all)}"),
        "loss, % of the gain": of_all.agg(with_error, digits=1),
    }
    return [
        table("loss, % of the gain", pd.DataFrame(columns)),
        table("trained at", pd.DataFrame(rows)),
        named(),
    ]


def named() -> Table:
    """What cuts and trainings lose at the smallest rank that an adapter of rank 32 names for a part
    of its gain."""
    cuts, runs = (pd.read_csv(FOLDER / f"{name}.csv") for name in ("cutting", "ways"))
    losses = runs.pivot(index=["task", "seed"], columns="variant", values="log_loss")
    losses["rank 32"] = losses["rank 32"].fillna(losses["rank 16"])  # of E2E the widest
    gains = (losses["head"] - losses["rank 32"]).groupby("task").mean()
    whole = cuts[cuts["cut"] == "whole"].set_index("run")["loss"]
    told = cuts[cuts["told"].notna()].sort_values("rank", ascending=False)
    rows = {}
    for part in (0.95, 0.99):
        lost: dict[str, list[float]] = {"cut": [], "trained": []}
        for (run, _), curve in told.groupby(["run", "rows"]):
            # from the largest rank down to the first that keeps less
            kept = curve[(curve["told"] >= part).cummin()]
            at = kept["rank"].min()
            (task, seed) = curve[["task", "seed"]].iloc[0]
            cut = kept["loss"].iloc[-1] if len(kept) else whole[run]
            of_seed = losses.loc[(task, seed)]
            lost["cut"].append(100 * (cut - whole[run]) / gains[task])
            training = of_seed[f"rank {at}"] if len(kept) else of_seed["rank 32"]
            lost["trained"].append(100 * (training - of_seed["rank 32"]) / gains[task])
        rows[f"{part:.0%}".replace("%", " %")] = {
            f"{way}: {what}": cell
            for way, found in lost.items()
            for what, cell in (
                (
                    "lost more than allowed",
                    f"{sum(one > 100 * (1 - part) for one in found)} of {len(found)}",
                ),
                ("loss, % of the gain", with_error(pd.Series(found), 1)),
            )
        }
    return table("at the rank named for", pd.DataFrame(rows).T)


def spread(losses: np.ndarray) -> float:
    """The standard deviation that the places cause: two seeds of a choice have only its places in
    common."""
    covariance = np.mean([np.cov(one, other)[0, 1] for one, other in combinations(losses.T, 2)])
    return float(max(0.0, covariance) ** 0.5)


def places() -> list[Table]:
    """What random choices of layers gain, and how far they differ."""
    rows = {}
    for task in ("qqp", "mrpc"):
        losses = pd.read_csv(FOLDER / f"places_{task}.csv").pivot(
            index="draw", columns="seed", values="loss"
        )
        fall = losses.loc[-1].mean() - losses.drop(-1).mean(axis=1)  # draw -1: the head alone
        drawn = losses.drop(-1).to_numpy()
        generator = np.random.default_rng(0)
        samples = [
            spread(drawn[generator.integers(0, len(drawn), len(drawn))]) for _ in range(2000)
        ]
        low, high = np.percentile(samples, [5, 95]) / fall.mean()
        part = f"{spread(drawn) / fall.mean():.0%} ({low:.0%} to {high:.0%})".replace("%", "")
        rows[TASKS[task]] = [
            f"{len(drawn)}",
            f"{fall.mean():.3f}",
            f"{fall.min():.3f}",
            f"{fall.max():.3f}",
            part,
        ]
    names = [
        "choices",
        "gain, nats",
        "of the worst",
        "of the best",
        "spread by the places, % of the gain (90 %)",
    ]
    return [table("task", pd.DataFrame(rows, index=names).T), *stored("places")]


def summary() -> list[Table]:
    """Verdicts of one search, and the pairs of several searches."""
    verdict = pd.read_csv(FOLDER / "verdict.csv", dtype=str).pivot(
        index="row", columns="column", values="value"
    )
    one = verdict["of the gain, %"] + ", " + verdict["ending"]
    columns = {}
    for size, budget in (("a quarter of rank 1", "0.25"), ("as large as rank 1", "1")):
        of_task = advantages(f"shares {budget}").groupby(level=0)
        means = of_task.agg(["mean", "min", "max", "size"]).round().astype(int).itertuples()
        of_size = one[one.index.str.endswith(f", {budget}")]
        columns[f"{size}: one search"] = of_size.rename(lambda row: row.split(",")[0])
        columns[f"{size}: several"] = {
            of[0]: f"{of[1]} ({of[2]} to {of[3]}; {of[4]})" for of in means
        }
    tasks = ["MRPC", "BioNLP", "QQP", "SST-2", "STS-B", "E2E", "WebNLG"]
    return [
        table(
            "learned places better by, % of the gain", pd.DataFrame(columns).loc[tasks].fillna("")
        )
    ]


def cutting() -> list[Table]:
    """What cuts lose beside the whole adapter, in percent of what it gains; the most rows chose
    them."""
    cuts = pd.read_csv(FOLDER / "cutting.csv")
    runs = pd.read_csv(FOLDER / "ways.csv")
    losses = runs.pivot_table(index="task", columns="variant", values="log_loss")
    gains = losses["head"] - losses["rank 32"].fillna(losses["rank 16"])
    whole = cuts[cuts["cut"] == "whole"].set_index("run")["loss"]
    most = cuts.groupby("run")["rows"].transform("max")
    found = cuts[cuts["rows"].isin([0]) | (cuts["rows"] == most)].query("rank in [1, 4, 8]")
    lost = 100 * (found["loss"] - found["run"].map(whole)) / found["task"].map(gains)
    of_cuts = lost.groupby([found["cut"], found["task"], found["rank"]], sort=False).agg(
        with_error, digits=1
    )
    wide = of_cuts.unstack([1, 2])
    columns = [f"{WAY_TASKS[task]}, rank {at}" for task, at in wide]
    return [table("lost, % of the gain", wide.set_axis(columns, axis=1))]


def ways() -> list[Table]:
    """By how much each way loses more than fresh LoRA at ranks by shares, in percent of what the
    widest LoRA gains; in the mean all tasks weigh alike."""
    losses = pd.read_csv(FOLDER / "ways.csv").pivot(
        index=["task", "seed"], columns="variant", values="log_loss"
    )
    widest = losses["rank 32"].fillna(losses["rank 16"])
    gains = (losses["head"] - widest).groupby("task").mean()
    rows = {}
    for name in ("widest", "rank", "para", "wide", "adalora"):
        of_ways = {at: widest if name == "widest" else losses[f"{name} {at}"] for at in (1, 4)}
        more = pd.concat(
            {at: of_way - losses[f"shares {at}"] for at, of_way in of_ways.items()}
        ).dropna()
        more = 100 * more / more.index.get_level_values("task").map(gains)
        cells = (
            more.groupby(level=["task", 0], sort=False).mean().sort_index(ascending=[False, True])
        )
        weights = 1 / more.groupby("task").transform("size")
        weights /= weights.sum()
        error = (
            (weights * (more - weights @ more)).pow(2).sum() * len(more) / (len(more) - 1)
        ) ** 0.5
        mean = f"{weights @ more:.1f} +- {error:.1f}"
        rows[name] = {
            f"{WAY_TASKS[task]}, {at}": f"{cell:.1f}" for (task, at), cell in cells.items()
        } | {"mean": mean}
    return [table("more lost than shares, %", pd.DataFrame(rows).T.fillna(""))]


COMPUTED = {
    "table1": table1,
    "seeds": seeds,
    "enough": enough,
    "places": places,
    "README": summary,
    "cutting": cutting,
    "ways": ways,
}
"""The pages whose tables are computed from single trainings."""


@pytest.mark.parametrize("page", RESULTS, ids=lambda page: page.stem)
def test_the_tables_of_a_page_are_what_its_numbers_say(page: Path) -> None:
    assert printed(page) == (COMPUTED[page.stem]() if page.stem in COMPUTED else stored(page.stem))
    assert len(text_of(page).splitlines()) <= 60


@pytest.mark.parametrize("page", RESULTS, ids=lambda page: page.stem)
def test_the_commands_of_a_page_are_read(page: Path) -> None:
    """Those of code that is gone name its commit."""
    for block in (block for block in blocks(text_of(page), "bash") if "18db2fbb" not in block):
        for words in (words for words in commands(block) if "run.py" in words):
            parse(words[words.index("run.py") + 1 :])


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.csv")), ids=lambda path: path.stem)
def test_every_number_names_its_commit(path: Path) -> None:
    assert pd.read_csv(path, dtype=str)["commit"].str.contains(r"^[0-9a-f]{7,12}\b").all()
