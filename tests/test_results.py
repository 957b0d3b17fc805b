"""The notebook: each table in results/ is what the CSV beside it says, and each number there names
its commit."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, t, wilcoxon

from tests.helpers.command import parse
from tests.helpers.markdown import RESULTS, blocks, text_of
from tests.helpers.paths import ROOT
from tests.helpers.shell import commands

Table = list[list[str]]
"""Rows of cells; the first row is the head, and its first cell says what the rows are."""
FOLDER = ROOT / "results"
TASKS = {"sst2": "SST-2", "stsb": "STS-B", "mrpc": "MRPC", "qqp": "QQP"}
WAY_TASKS = TASKS | {"e2e": "E2E"}
CUT = "rank 32 (E2E 16), cut, stop"
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


def ways_losses() -> pd.DataFrame:
    """Losses of ways.csv, a row for each task and seed; `widest` is rank 32, on E2E rank 16."""
    runs = pd.read_csv(FOLDER / "ways.csv")
    losses = runs.pivot(index=["task", "seed"], columns="variant", values="log_loss")
    losses["widest"] = losses["rank 32"].fillna(losses["rank 16"])
    return losses


def cut_deficits() -> pd.Series:
    """What balanced cuts, chosen by the most rows, lose beside the whole adapter, in nats."""
    cuts = pd.read_csv(FOLDER / "cutting.csv")
    whole = cuts[cuts["cut"] == "whole"].set_index("run")["loss"]
    most = cuts.groupby("run")["rows"].transform("max")
    balanced = cuts[(cuts["cut"] == "balanced") & (cuts["rows"] == most)]
    keys = balanced[["rank", "task", "seed"]]
    deficits = balanced["loss"] - balanced["run"].map(whole)
    return deficits.set_axis(pd.MultiIndex.from_frame(keys, names=["size", "task", "seed"]))


def deficits() -> dict[str, pd.Series]:
    """Way -> what it loses beside the widest LoRA, by size, task and seed, in percent of the gain.

    A cut stands beside its own whole adapter, on the rows that judge cuts."""
    losses = ways_losses()
    of_ways = {}
    for name in ("shares", "rank", "para", "wide", "adalora"):
        of_sizes = {size: losses[f"{name} {size}"] - losses["widest"] for size in (1, 4)}
        of_ways[name] = pd.concat(of_sizes, names=["size"])
    cells = of_ways["shares"].index
    of_ways["widest"] = pd.Series(0.0, cells)
    of_ways[CUT] = cut_deficits().reindex(cells)
    gains = (losses["head"] - losses["widest"]).groupby("task").mean()
    gains_of_cells = cells.get_level_values("task").map(gains)
    return {name: 100 * nats / gains_of_cells for name, nats in of_ways.items()}


def excesses() -> dict[str, pd.Series]:
    """Way -> by how much it loses more than shares, both beside the widest LoRA."""
    of_ways = deficits()
    names = ("widest", "rank", "para", "wide", "adalora", CUT)
    return {name: of_ways[name] - of_ways["shares"] for name in names}


def mean_of_tasks(values: pd.Series) -> float:
    return float(values.groupby("task").mean().mean())


def error_of_cells(values: pd.Series) -> float:
    """The standard error of that mean if each cell of task, size and seed is a draw."""
    weights = 1 / values.groupby("task").transform("size")
    weights /= weights.sum()
    squares = (weights * (values - mean_of_tasks(values))).pow(2)
    variance = squares.sum() * len(values) / (len(values) - 1)
    return float(variance**0.5)


def error_of_seeds(values: pd.Series) -> float:
    """The standard error of that mean if the seeds of a task are the draws; the tasks are fixed."""
    of_seeds = values.groupby(["task", "seed"]).mean()
    errors = of_seeds.groupby("task").sem()
    return float(errors.pow(2).sum() ** 0.5 / len(errors))


def without_empty_search(values: pd.Series) -> pd.Series:
    """Without seed 0 of MRPC, where the search learned nothing."""
    is_mrpc = values.index.get_level_values("task") == "mrpc"
    is_first = values.index.get_level_values("seed") == 0
    return values[~(is_mrpc & is_first)]


def mean_by_seeds(values: pd.Series) -> str:
    return f"{mean_of_tasks(values):.1f} +- {error_of_seeds(values):.1f}"


def ways() -> list[Table]:
    """By how much each way loses more than fresh LoRA at ranks by shares, in percent of the gain.

    In the mean all tasks weigh alike."""
    rows = {}
    for name, excess in excesses().items():
        cells = excess.groupby(["task", "size"]).mean().sort_index(ascending=[False, True])
        row = {f"{WAY_TASKS[task]}, {size}": f"{cell:.1f}" for (task, size), cell in cells.items()}
        row["mean"] = f"{mean_of_tasks(excess):.1f}"
        row["error, cells"] = f"{error_of_cells(excess):.1f}"
        row["error, seeds"] = f"{error_of_seeds(excess):.1f}"
        row["without seed 0 of MRPC"] = mean_by_seeds(without_empty_search(excess))
        rows[name] = row
    return [table("more lost than shares, %", pd.DataFrame(rows).T)]


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


def excess_of_rank_4(losses: pd.DataFrame) -> pd.Series:
    """How much more rank 4 loses than rank 8, by task and seed, in percent of what rank 8 gains."""
    gains = (losses["head"] - losses["rank 8"]).groupby("task").mean()
    gains_of_rows = losses.index.get_level_values("task").map(gains)
    return 100 * (losses["rank 4"] - losses["rank 8"]) / gains_of_rows


def table1_losses() -> pd.DataFrame:
    return table1_runs().pivot(index=["task", "seed"], columns="variant", values="log_loss")


def enough_losses() -> pd.DataFrame:
    runs = pd.read_csv(FOLDER / "enough.csv").query("method != 'autolora'")
    tasks = runs["task"].str.removeprefix("enough-")
    variants = ("rank " + runs["rank"].astype(str)).replace("rank 0", "head")
    named = runs.assign(task=tasks, variant=variants)
    return named.pivot(index=["task", "seed"], columns="variant", values="loss")


def sentences_of_table1() -> list[str]:
    """Rank 4 beside rank 8, and the shuffles of the two tasks that did not choose the rule."""
    excess = excess_of_rank_4(table1_losses())
    p = wilcoxon(excess).pvalue
    shuffles = [advantages(f"shares {budget}")[["SST-2", "STS-B"]] for budget in BUDGETS]
    *first, last = [f"{values.mean():.1f}" for values in shuffles]
    runs = pd.read_csv(FOLDER / "table1.csv")
    rates = runs.groupby("variant")["learning_rate"].unique()
    assert list(rates["adalora"]) == [0.01]  # the highest of three
    assert list(rates["adapter"]) == [0.003]
    return [
        f"loses {mean_by_seeds(excess)} % of the gain more (",
        f"({len(excess)} pairs, Wilcoxon p {p:.1g};",
        f"on QQP {with_error(excess['qqp'], 1)}.",
        f"behind by {', '.join(first)} and {last} % (budgets 0.25 to 4)",
    ]


def sentences_of_enough() -> list[str]:
    """Rank 4 beside rank 8, here and in table1, and how many adapters name a rank."""
    excess = excess_of_rank_4(enough_losses())
    points = pd.read_csv(FOLDER / "cutting.csv").dropna(subset="told")
    namings = points.groupby("run")["rows"].nunique()
    words = {6: "six"}
    repeats = int((namings == 2).sum())
    return [
        f"(by {mean_by_seeds(excess)} %)",
        f"with 16 pairs, by {mean_by_seeds(excess_of_rank_4(table1_losses()))} %",
        f"{namings.sum()} cases are {len(namings)} adapters",
        f"the most rows for {words[repeats]} again",
    ]


def sentences_of_verdict() -> list[str]:
    """The sign tests over tasks, and the least p that eight pairs can give."""
    cells = pd.read_csv(FOLDER / "verdict.csv", dtype=str)
    parts = cells[cells["column"] == "of the gain, %"]
    tasks = parts["row"].str.split(",").str[0]
    means = parts["value"].astype(float).groupby(tasks).mean()
    others = means.drop(["MRPC", "QQP"])
    assert (means > 0).all()
    p = binomtest(len(means), len(means)).pvalue
    p_of_others = binomtest(len(others), len(others)).pvalue
    least = 0.5**8
    corrected = least * len(parts)
    words = {7: "seven", 5: "five"}
    return [
        f"on all {words[len(means)]} (sign test, two-sided: p {p:.2g})",
        f"{words[len(others)]} other than MRPC and QQP, which chose the rule (p {p_of_others:.1g})",
        f"The {len(parts)} verdicts are not corrected",
        f"a p of at least {least:.1g}, one-sided, and {len(parts)} times that is {corrected:.1g}",
    ]


FREEDOM = 5
"""The degrees of freedom of an error over the seeds of ways.csv: three, three and two seeds."""
POWER = t.ppf(0.975, FREEDOM) + t.ppf(0.8, FREEDOM)
"""How many standard errors a difference has that 80 % of such studies see."""


def visible() -> list[str]:
    """The differences that 80 % of such studies as ways.csv see."""
    errors = {name: error_of_seeds(excess) for name, excess in excesses().items()}
    of_rank = POWER * errors["rank"]
    assert POWER * errors["para"] == pytest.approx(of_rank, abs=1)
    return [f"about {of_rank:.0f} % ", f"(`wide`: {POWER * errors['wide']:.0f} %)"]


def seconds_of_search() -> str:
    """Seconds of shares, divided by those of one rank: means of task and size."""
    runs = pd.read_csv(FOLDER / "ways.csv")
    seconds = runs.pivot(index=["task", "seed"], columns="variant", values="seconds")
    of_sizes = {size: seconds[f"shares {size}"] / seconds[f"rank {size}"] for size in (1, 4)}
    means = pd.DataFrame(of_sizes).groupby("task").mean().stack()
    return f"{means.min():.1f} to {means.max():.1f} times one rank's seconds"


def sentences_of_ways() -> list[str]:
    """PARA in errors, the cut by task, what each way loses beside the widest, seconds, power."""
    of_ways = excesses()
    para = of_ways["para"]
    mean = mean_of_tasks(para)
    errors_of_cells = mean / error_of_cells(para)
    errors_of_seeds = mean / error_of_seeds(para)
    p = 2 * t.sf(abs(errors_of_seeds), FREEDOM)
    rest = without_empty_search(para)
    errors_of_rest = mean_of_tasks(rest) / error_of_seeds(rest)
    rank = mean_of_tasks(without_empty_search(of_ways["rank"]))
    of_tasks = of_ways[CUT].groupby("task").mean()
    means = {name: f"{mean_of_tasks(values):.1f}" for name, values in deficits().items()}
    assert means["shares"] == means["rank"]
    runs = pd.read_csv(FOLDER / "ways.csv")
    is_adalora = runs["variant"].str.startswith("adalora")
    assert set(runs.loc[is_adalora, "learning_rate"]) == {0.01}  # the highest of three
    return [
        f"ahead by {-errors_of_cells:.1f} of the first errors, by which the rule was judged,",
        f"and {-errors_of_seeds:.1f} of the second",
        f"(p {p:.1g}; without that seed {-errors_of_rest:.1f})",
        f"it is {rank:.1f} % behind",
        f"{means[CUT]} % beside the widest; PARA {means['para']}, ",
        f"shares and one rank {means['rank']}, `wide` {means['wide']}.",
        f"{of_tasks['mrpc']:.1f} beside shares, ",
        f"SST-2 {of_tasks['sst2']:+.1f}, E2E {of_tasks['e2e']:+.1f}.",
        seconds_of_search(),
        f"about {POWER:.1f} of the second errors",
        *visible(),
    ]


def sentences_of_readme() -> list[str]:
    """Rank 4 on GLUE and E2E, the places of ranks at rank 1's size, and what could be seen."""
    cells = pd.read_csv(FOLDER / "reproducing.csv", dtype=str)
    is_loss = cells["column"] == "loss per token, seeds 0 and 1"
    of_rows = cells[is_loss].set_index("row")["value"]
    losses = of_rows.str.split(", ", expand=True).astype(float)
    on_chats = losses.loc["4 in every layer"] - losses.loc["8 in every layer"]
    tasks = ["QQP", "SST-2", "STS-B"]
    verdicts = pd.read_csv(FOLDER / "verdict.csv", dtype=str)
    of_verdicts = verdicts.pivot(index="row", columns="column", values="value")
    at_rank_1 = of_verdicts.loc[[f"{task}, 1" for task in tasks]]
    assert set(at_rank_1["ending"]) == {"matter"}
    parts = sorted(at_rank_1["of the gain, %"], key=float)
    means = advantages("shares 1").groupby(level=0).mean()[tasks]
    *first, last = [f"{mean:.0f}" for mean in means]
    return [
        f"rank 4 lost {mean_by_seeds(excess_of_rank_4(table1_losses()))} % of the gain more",
        " and ".join(f"{nats:.3f}" for nats in on_chats) + " nats a token",
        f"{parts[0]} to {parts[-1]} % on three",
        f"{', '.join(first)} and {last} % by four",
        *visible(),
    ]


def sentences_of_how_it_works() -> list[str]:
    return visible()[:1]


SENTENCES: dict[str, Callable[[], list[str]]] = {
    "README.md": sentences_of_readme,
    "docs/how-it-works.md": sentences_of_how_it_works,
    "results/table1.md": sentences_of_table1,
    "results/enough.md": sentences_of_enough,
    "results/verdict.md": sentences_of_verdict,
    "results/ways.md": sentences_of_ways,
}
"""Page -> words with numbers that stand in its sentences."""


@pytest.mark.parametrize("page", SENTENCES)
def test_the_numbers_in_sentences_are_what_the_csvs_say(page: str) -> None:
    text = " ".join(text_of(ROOT / page).split())
    assert [words for words in SENTENCES[page]() if words not in text] == []


def test_runs_that_stand_on_two_pages_are_the_same() -> None:
    """MRPC's head and equal ranks of ways are table1's; at seed 0 enough has them, and SST-2's."""
    names = ["head", "rank 1", "rank 2", "rank 4", "rank 8"]
    on_ways = ways_losses()[names]
    on_table1 = table1_losses()[names]
    on_enough = enough_losses()[names]
    for key in (("mrpc", 0), ("mrpc", 1), ("mrpc", 2)):
        assert list(on_ways.loc[key]) == pytest.approx(list(on_table1.loc[key]), abs=1e-6)
    for key in (("mrpc", 0), ("sst2", 0)):
        assert list(on_enough.loc[key]) == pytest.approx(list(on_table1.loc[key]), abs=2e-4)
    first = ways_losses().loc[("mrpc", 0)]
    assert first["shares 1"] == first["shares 4"] == first["rank 1"]


@pytest.mark.parametrize("page", RESULTS, ids=lambda page: page.stem)
def test_the_commands_of_a_page_are_read(page: Path) -> None:
    """Those of code that is gone name its commit."""
    for block in (block for block in blocks(text_of(page), "bash") if "18db2fbb" not in block):
        for words in (words for words in commands(block) if "run.py" in words):
            parse(words[words.index("run.py") + 1 :])


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.csv")), ids=lambda path: path.stem)
def test_every_number_names_its_commit(path: Path) -> None:
    assert pd.read_csv(path, dtype=str)["commit"].str.contains(r"^[0-9a-f]{7,12}\b").all()
