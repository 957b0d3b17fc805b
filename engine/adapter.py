"""`run.py measure` and `run.py cut`: an adapter in a folder or on the hub, on the rows of a file or
a data set."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from autolora.configs.errors import UserError
from autolora.configs.files import to_text
from autolora.configs.layers import sources_of
from autolora.configs.requests import AdapterRequest
from autolora.configs.schema import Sources
from autolora.engine import ranks
from autolora.engine.api.adapter import (
    MeasuredAdapter,
    measure_model,
    refuse_few,
    refuse_sizes,
    rows_words,
)
from autolora.engine.disk.files import remove, replacing, write_text
from autolora.engine.export.adapter import save_tokenizer
from autolora.engine.inputs import Inputs, base_of, read_inputs
from autolora.engine.interrupt import StopRequest
from autolora.engine.measure.moments import Moments
from autolora.engine.measure.passes import Passes
from autolora.engine.report.measured import measured_sections
from autolora.engine.report.page import Section, write_page
from autolora.engine.retrain.judge import judge
from autolora.engine.terminal.bar import Bar
from autolora.engine.terminal.console import console
from autolora.engine.tracking.picture import rank_map
from autolora.engine.world import World
from autolora.problems.machine.compute import Compute, choose_compute
from autolora.problems.machine.content import digest_of
from autolora.problems.models.adapter import AdapterFolder, class_names
from autolora.problems.models.base import BaseOnDisk
from autolora.problems.models.load import load_settings
from autolora.problems.rows import Rows
from autolora.problems.tasks.base import Trained
from autolora.problems.tasks.sources import held_out

log = logging.getLogger("autolora")

BATCH = {True: 8, False: 64}
"""Rows at a time of language models and of others, where no gradient is taken."""
GRADIENT_BATCH = {True: 8, False: 16}
"""Rows at a time where one is."""
MEASUREMENT = "measure.json"
MOMENTS = "moments.safetensors"
_TYPES = {"SEQ_CLS": "text", "TOKEN_CLS": "tokens", "CAUSAL_LM": "chat"}
"""PEFT's task type -> the task.type with which its rows are read, unless the user names one."""


def run_adapter_request(request: AdapterRequest, stop: StopRequest) -> None:
    """Measures an adapter and, if asked, cuts it. Raises UserError for what the user must
    change."""
    here = Path(request.adapter).expanduser()
    source = AdapterFolder.of(request.adapter)
    name = here.resolve().name if here.exists() else here.name
    folder = Path(request.folder or (here.parent if here.exists() else Path()) / f"{name}-measured")
    if request.cuts:
        _refuse_other_out(request)
    sources = _sources(request, source)
    compute = choose_compute(sources.device, sources.precision)
    world = World(compute, progress=Bar, stop=stop)
    trained, named_by = _trained(request, sources, source)
    inputs = read_inputs(sources, tokenizer=source.tokenizer(), trained=trained)
    rows = inputs.rows.train.drawn(request.rows, sources.seed)
    refuse_few(rows)
    note = rows_words(trained.rows.name, rows, len(inputs.rows.train))
    if classes := inputs.task.classes:
        numbered = [f"{number} {name}" for number, name in enumerate(classes[:20])]
        note += f"; classes {', '.join(numbered)}, by {named_by or 'the rows'}"
    console.print(note)
    base = base_of(sources, inputs, compute, check=world.check)
    model, off = source.load(base, compute.device)
    made_with = _made_with(sources, source, base, rows, compute)
    adapter = _measured_before(folder, made_with, model, note)
    if adapter is None:
        headless = sources.task.headless
        passes = Passes.of(rows, inputs.scoring, world, BATCH[headless])
        adapter = measure_model(model, passes, GRADIENT_BATCH[headless], world, note, off)
        _save(adapter, folder, made_with)
    console.print(str(adapter).removeprefix(f"{note}\n"))
    write_text(folder / "curve.csv", adapter.curve.to_csv(index=False))
    write_text(folder / "shares.csv", adapter.shares.to_csv(index=False))
    said = "\n".join(filter(None, (adapter.evidence.few, adapter.advice)))
    sections = measured_sections(adapter.record, said, "these rows")
    if request.cuts:
        sections.append(_cut(request, adapter, inputs, rows, base, source, world))
    told = f"{request.adapter} on {sources.model.name}. {note[0].upper()}{note[1:]}."
    settings = to_text(sources.model_dump(mode="json"))
    write_page(folder / "report.html", name, told, sections, settings, folder)
    _tell("measured", folder / MEASUREMENT)
    _tell("report", folder / "report.html")


def _note(request: AdapterRequest) -> str:
    """The cut in words."""
    size = {**request.size, "split": request.split, "padded": request.padded}
    return (
        f"{request.adapter} cut by {request.data}: "
        f"{', '.join(f'{k} {v}' for k, v in size.items() if v)}"
    )


def _refuse_other_out(request: AdapterRequest) -> None:
    """Raises UserError for sizes that no cut has, and for a folder that holds another adapter."""
    refuse_sizes(**request.size)
    out = Path(request.out)
    known = ranks.load(out / "ranks.json").note if (out / "ranks.json").exists() else None
    if (out / "adapter_config.json").exists() and known != _note(request):
        raise UserError(
            f"OUT: {out} holds another adapter ({known or 'not cut here'}); give another folder"
        )


def _sources(request: AdapterRequest, source: AdapterFolder) -> Sources:
    """From where the rows are read and the base model is loaded."""
    base = request.base or source.base
    kind = request.settings.get("task.type") or _TYPES.get(source.config.get("task_type") or "")
    if not base or kind is None:
        raise UserError(
            f"{source.path}: adapter_config.json names no base model or no task_type of "
            f"{', '.join(_TYPES)}; give --base or --task.type"
        )
    given = {
        "model.name": base,
        "model.revision": source.config.get("revision"),
        "task.type": kind,
        "task.path": request.data,
        "task.kind": "regression" if kind == "text" and source.outputs == 1 else None,
    }
    known = {key: value for key, value in given.items() if value is not None}
    return sources_of({**known, **request.settings})


def _trained(
    request: AdapterRequest, sources: Sources, source: AdapterFolder
) -> tuple[Trained, str]:
    """What is known of the model before it is loaded; and who names its classes: the adapter, the
    base, or "" where nobody does."""
    rows = held_out(sources.task, request.data, request.split, "--data")
    test = None
    if request.test is not None:
        test = held_out(sources.task, request.test, None, "--test", first="test")
    if sources.task.headless:
        return Trained(rows, test), ""
    of_base = load_settings(sources.model)
    outputs = source.outputs or of_base.num_labels
    names = {"the adapter's config.json": source.classes, "the base model": class_names(of_base)}
    for named_by, classes in names.items():
        if len(classes) == outputs:
            return Trained(rows, test, classes, outputs), named_by
    return Trained(rows, test, (), outputs), ""


def _made_with(
    sources: Sources,
    source: AdapterFolder,
    base: BaseOnDisk,
    rows: Rows,
    compute: Compute,
) -> str:
    """What a measurement follows from: two of equal text are equal. The rows' labels are numbers,
    so that another order of the classes is other data."""
    return json.dumps(
        {
            "settings": sources.model_dump(mode="json", exclude={"task": {"path"}}),
            "adapter": [digest_of(file) for file in sorted(source.path.glob("adapter_*"))],
            "base": base.digest,
            "data": rows.digest,
            "precision": str(compute),
            "version": 4,
        }
    )


def _measured_before(
    folder: Path, made_with: str, model: PeftModel, note: str
) -> MeasuredAdapter | None:
    """The measurement in the folder, if it was made with the same; `note`: what was read, in
    words."""
    of_lora = folder / MOMENTS
    if not of_lora.exists():
        return None
    with safe_open(of_lora, "pt") as file:
        if file.metadata() != {"made_with": made_with}:
            return None
    log.info("%s: of these rows and this adapter; nothing is measured again", folder / MEASUREMENT)
    record = replace(ranks.load(folder / MEASUREMENT), note=note)
    return MeasuredAdapter(model, record, Moments(**load_file(of_lora)))


def _save(adapter: MeasuredAdapter, folder: Path, made_with: str) -> None:
    """Writes measure.json and the moments."""
    remove(folder / MOMENTS)
    ranks.save(adapter.record, folder / MEASUREMENT)
    with replacing(folder / MOMENTS) as place:  # last: it says what both files were made with
        save_file(vars(adapter.moments), place, metadata={"made_with": made_with})


def _cut(
    request: AdapterRequest,
    adapter: MeasuredAdapter,
    inputs: Inputs,
    rows: Rows,
    base: BaseOnDisk,
    source: AdapterFolder,
    world: World,
) -> Section:
    """Writes the smaller adapter, and evaluates it on the rows of --test in plain PEFT. `rows`:
    those that chose the cut."""
    out = Path(request.out)
    chosen = adapter.ranks(**request.size)
    layers = tuple(ranks.LayerRank(*item) for item in chosen.items())
    record = ranks.RankRecord(max(chosen.values()), layers, rule="cut", note=_note(request))
    # First, so that the folder is known as this command's from its first file on.
    ranks.save(record, out / "ranks.json")
    adapter.save(out, pad=request.padded, **request.size)
    save_tokenizer(inputs.tokenizer, out)
    if (source.path / "config.json").exists():  # it names the classes
        shutil.copyfile(source.path / "config.json", out / "config.json")
    size = sum(rank * cost for rank, cost in zip(chosen.values(), adapter.sizes, strict=True))
    spread = " to ".join(map(str, sorted({min(chosen.values()), record.k})))
    said = [f"{size:,} of {adapter.record.lora_parameters:,} parameters, rank {spread}, in {out}"]
    _tell("cut to", said[0])
    for test in inputs.rows.evaluation.values():
        model, _ = AdapterFolder(out).load(base, world.compute.device)
        batch = BATCH[inputs.task.config.headless]
        metrics = judge(model, inputs.rows, inputs.scoring, world, batch=batch).metrics
        said.append("  ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
        shared = len(np.intersect1d(test.groups, rows.groups))
        said.append(f"{shared} of its {test.group_count} inputs are among those that chose the cut")
        _tell("on --test", said[-2])
        _tell("", said[-1])
    return Section("The cut", None, "\n".join(said), rank_map(record), "cut")


def _tell(what: str, text: Any) -> None:
    console.print(f"{what:>9}  {text}")
