"""`run.py measure` and `run.py cut`: an adapter in a folder or on the hub, on the rows of a file or
a data set."""

import dataclasses
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import snapshot_download
from peft import PeftModel, load_peft_weights
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from autolora.configs.errors import UserError
from autolora.configs.files import to_yaml
from autolora.configs.layers import settings
from autolora.configs.requests import AdapterRequest
from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.api.adapter import MeasuredAdapter, measured, refuse_sizes
from autolora.engine.disk.files import read_json, remove, replacing, write_text
from autolora.engine.export.adapter import save_tokenizer
from autolora.engine.measure.likelihood import likelihood_of
from autolora.engine.measure.measure import Moments, Passes
from autolora.engine.report.measured import measured_sections
from autolora.engine.report.page import Section, write_page
from autolora.engine.retrain.evaluate import evaluate
from autolora.engine.run.context import Context
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.terminal.console import console
from autolora.engine.tracking.picture import rank_map
from autolora.problems.machine.content import digest_of
from autolora.problems.machine.hub import explain_missing
from autolora.problems.models.attach import lora_layers
from autolora.problems.rows import Rows

log = logging.getLogger("autolora")

_TYPES = {"SEQ_CLS": "text", "TOKEN_CLS": "tokens", "CAUSAL_LM": "chat"}
"""PEFT's task type -> the task.type with which its rows are read, unless the user names one."""


def run_adapter_request(request: AdapterRequest, stop: StopRequest) -> None:
    """Measures an adapter and, if asked, cuts it. Raises UserError for what the user must
    change."""
    here = Path(request.adapter).expanduser()
    source = _adapter(request.adapter)
    name = here.resolve().name if here.exists() else here.name
    folder = Path(request.folder or (here.parent if here.exists() else Path()) / f"{name}-measured")
    if request.cuts:
        _refuse_other_out(request)
    run = Context(_config(request, source), stop)
    adapter = _measured(run, request, source, folder)
    console.print(str(adapter))
    write_text(folder / "curve.csv", adapter.curve.to_csv(index=False))
    write_text(folder / "shares.csv", adapter.shares.to_csv(index=False))
    said = "\n".join(filter(None, (adapter.evidence.few, adapter.advice)))
    sections = measured_sections(adapter.record, said, "these rows")
    if request.cuts:
        sections.append(_cut(run, request, adapter))
    told = (
        f"{request.adapter} on {run.config.model.name}, measured on {adapter.evidence.rows} "
        f"rows of {request.data}."
    )
    write_page(folder / "report.html", name, told, sections, to_yaml(run.config), folder)
    _tell("measured", folder / "measure.json")
    _tell("report", folder / "report.html")


def _note(request: AdapterRequest) -> str:
    """The cut in words."""
    size = {**request.size, "padded": request.padded}
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


def _adapter(name: str) -> Path:
    """The folder of an adapter, downloaded from the hub if it is none here."""
    folder = Path(name).expanduser()
    if not folder.exists():
        with explain_missing("ADAPTER", name):
            folder = Path(snapshot_download(name))
    if not (folder / "adapter_config.json").exists():
        raise UserError(
            f"{folder}: holds no adapter_config.json; give an adapter's folder, such as "
            "runs/X/adapter"
        )
    return folder


def _config(request: AdapterRequest, source: Path) -> RunConfig:
    """The settings with which the rows are read and the base model is loaded."""
    own = read_json(source / "adapter_config.json")
    file = read_json(source / "config.json").get("gguf_file")
    base = own.get("base_model_name_or_path")
    base = request.base or (f"{base}/{file}" if base and file else base)
    kind = request.settings.get("task.type") or _TYPES.get(own.get("task_type") or "")
    if not base or kind is None:
        raise UserError(
            f"{source}: adapter_config.json names no base model or no task_type of "
            f"{', '.join(_TYPES)}; give --base or --task.type"
        )
    given = {
        "name": "adapter",
        "method": "head",
        "model.name": base,
        "model.revision": own.get("revision"),
        "task.type": kind,
        "task.path": request.data,
        "task.test_path": request.test,
        "retrain.batch_size": 16 if kind in ("text", "tokens") else 8,
    }
    return settings(
        {**{key: value for key, value in given.items() if value is not None}, **request.settings}
    )


def _measured(run: Context, request: AdapterRequest, source: Path, folder: Path) -> MeasuredAdapter:
    """The measured adapter: by the folder's measure.json if that is of the same adapter, base, rows
    and settings."""
    _read_as(run, source)
    whole = Rows.joined(run.data.learnable)
    # the same order with --test, beside which nothing is held out
    rows = whole.select(np.argsort(whole.groups, kind="stable"))
    _refuse_other_classes(run, source)
    model = loaded(run, source)
    made_with = json.dumps(
        {
            "settings": run.config.model_dump(mode="json", exclude={"task": {"path", "test_path"}}),
            "rows": request.rows,
            "adapter": [digest_of(file) for file in sorted(source.glob("adapter_*"))],
            "base": run.known["base model"],
            "data": rows.digest,
            "precision": str(run.compute),
            "version": 1,
        }
    )
    measurement = folder / "measure.json"
    of_lora = folder / "moments.safetensors"
    if of_lora.exists():
        with safe_open(of_lora, "pt") as file:
            known = file.metadata() == {"made_with": made_with}
        if known:
            log.info("%s is of these rows and this adapter; nothing is measured again", measurement)
            return MeasuredAdapter(model, ranks.load(measurement), Moments(**load_file(of_lora)))
    log.info(
        "%d rows; if the adapter was trained on them, they flatter it",
        min(request.rows, len(rows)),
    )
    passes = Passes(
        rows.drawn(request.rows, run.config.seed),
        likelihood_of(run.task),
        run.compute,
        check=run.stop.check,
        batch=run.config.evaluation_batch,
    )
    adapter = measured(model, passes, run.config.retrain.batch_size)
    remove(of_lora)
    ranks.save(adapter.record, measurement)
    with replacing(of_lora) as place:  # last: it says what both files were made with
        save_file(vars(adapter.moments), place, metadata={"made_with": made_with})
    return adapter


def loaded(run: Context, source: Path) -> PeftModel:
    """The base model with this adapter, by plain PEFT, on the run's device. Raises UserError if it
    does not fit."""
    try:
        model = PeftModel.from_pretrained(run.base().model, str(source))
    except (RuntimeError, ValueError) as error:
        told = " ".join(str(error).split())[:300]
        raise UserError(
            f"{source}: PEFT cannot load it on {run.config.model.name}: {told}"
        ) from error
    ours = {f"base_model.model.{name}.lora_A.weight" for name in lora_layers(model)}
    there = {
        key
        for key in load_peft_weights(str(source), device="cpu")
        if key.endswith(".lora_A.weight")
    }
    if ours != there:
        raise UserError(
            f"{source}: is of another base than {run.config.model.name}: only one of the two has "
            f"{min(ours ^ there).removeprefix('base_model.model.')}"
        )
    model.to(run.compute.device)
    return model.eval()


def _read_as(run: Context, source: Path) -> None:
    """Lets the run read rows as the adapter does: with the tokenizer and the template of its
    folder, if it has one, and with numbers as labels in their own units, not on the scale that a
    training here would learn them on."""
    if (source / "tokenizer_config.json").exists():
        run.tokenizer = AutoTokenizer.from_pretrained(source)
        run.tokenizer.pad_token = run.tokenizer.pad_token or run.tokenizer.eos_token
    run.task = dataclasses.replace(run.task, own_units=True)


def _refuse_other_classes(run: Context, source: Path) -> None:
    """Raises UserError if the adapter's folder names other classes than the rows have: the numbers
    of the labels would mean other classes, without a word."""
    own = list(run.task.head().get("id2label", {}).values())
    names = list(read_json(source / "config.json").get("id2label", {}).values())
    if own and names and not str(names[0]).startswith("LABEL_") and names != own:
        raise UserError(
            f"--data: its classes are {', '.join(own)}, those of the adapter {', '.join(names)}"
        )


def _cut(run: Context, request: AdapterRequest, adapter: MeasuredAdapter) -> Section:
    """Writes the smaller adapter, and evaluates it on the rows of --test in plain PEFT."""
    out = Path(request.out)
    chosen = adapter.ranks(**request.size)
    layers = tuple(ranks.LayerRank(*item) for item in chosen.items())
    record = ranks.RankRecord(max(chosen.values()), layers, rule="cut", note=_note(request))
    # First, so that the folder is known as this command's from its first file on.
    ranks.save(record, out / "ranks.json")
    adapter.save(out, pad=request.padded, **request.size)
    save_tokenizer(run.tokenizer, out)
    size = sum(rank * cost for rank, cost in zip(chosen.values(), adapter.sizes, strict=True))
    spread = " to ".join(map(str, sorted({min(chosen.values()), record.k})))
    said = [f"{size:,} of {adapter.record.lora_parameters:,} parameters, rank {spread}, in {out}"]
    _tell("cut to", said[0])
    if request.test is not None:
        model = loaded(run, out)
        found = evaluate(model, run, run.data).metrics
        said.append("  ".join(f"{name} {value:.4g}" for name, value in found.items()))
        _tell("on --test", said[1])
    return Section("The cut", None, "\n".join(said), rank_map(record), "cut")


def _tell(what: str, text: Any) -> None:
    console.print(f"{what:>9}  {text}")
