"""`run.py measure` and `run.py cut`: an adapter in a folder or on the hub, on the rows of a file or a data set."""

import dataclasses
import hashlib
import json
import logging
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from datasets import concatenate_datasets
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
from autolora.engine.measure.likelihood import Rows, likelihood_of
from autolora.engine.measure.measure import Moments, Passes
from autolora.engine.report.answer import answer_sections
from autolora.engine.report.findings import kept_words
from autolora.engine.report.page import Section, write_page
from autolora.engine.retrain.evaluate import evaluate
from autolora.engine.run.context import Context
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.terminal.console import console
from autolora.engine.terminal.loading import quiet_libraries
from autolora.engine.tracking.picture import rank_map
from autolora.problems.data import Data
from autolora.problems.machine.hub import explain_missing
from autolora.problems.models.attach import lora_layers
from autolora.problems.tasks.sources import digest

log = logging.getLogger("autolora")

_TYPES = {"SEQ_CLS": "text", "TOKEN_CLS": "tokens", "CAUSAL_LM": "chat"}
"""PEFT's task type -> the task.type with which its rows are read, unless the user names one."""


def run_adapter_request(request: AdapterRequest, stop: StopRequest) -> None:
    """Measures an adapter and, if asked, cuts it. Raises UserError for what the user must change."""
    source, settings = _adapter(request.adapter)
    name = Path(request.adapter).resolve().name if Path(request.adapter).exists() else request.adapter.split("/")[-1]
    beside = source.parent if Path(request.adapter).exists() else Path()
    folder = Path(request.folder) if request.folder else beside / f"{name}-measured"
    if request.cuts:
        _refuse_other_out(request)
    run = Context(_config(request, source, settings), stop)
    adapter = _measured(run, request, source, folder)
    console.print(str(adapter), highlight=False, soft_wrap=True)
    write_text(folder / "curve.csv", adapter.curve.to_csv(index=False))
    write_text(folder / "shares.csv", adapter.shares.to_csv(index=False))
    _tell("measured", folder / "measure.json")
    sections = answer_sections(
        adapter.record, lambda rank: adapter.parameters_at(int(rank)), adapter.advice, "these rows"
    )
    if request.cuts:
        sections.append(_cut(run, request, source, adapter))
    told = f"{request.adapter} on {run.config.model.name}, measured on {adapter.evidence.rows} rows of {request.data}."
    write_page(folder / "report.html", name, told, sections, to_yaml(run.config), folder)
    _tell("report", folder / "report.html")


def _note(request: AdapterRequest) -> str:
    """The cut in words."""
    size = {name: getattr(request, name) for name in ("keep", "rank", "parameters", "max_rank", "padded")}
    return f"{request.adapter} cut by {request.data}: {', '.join(f'{k} {v}' for k, v in size.items() if v)}"


def _refuse_other_out(request: AdapterRequest) -> None:
    """Raises UserError for sizes that no cut has, and for a folder that holds another adapter."""
    refuse_sizes(request.keep, request.rank, request.parameters, request.max_rank)
    out = Path(request.out)
    known = ranks.load(out / "ranks.json").note if (out / "ranks.json").exists() else None
    if (out / "adapter_config.json").exists() and known != _note(request):
        raise UserError(f"OUT: {out} holds another adapter ({known or 'not cut here'}); give another folder")


def _adapter(name: str) -> tuple[Path, dict[str, Any]]:
    """The folder of an adapter, downloaded from the hub if it is none here, and its adapter_config.json."""
    folder = Path(name).expanduser()
    if not folder.exists():
        with explain_missing("ADAPTER", name):
            folder = Path(snapshot_download(name))
    if not (folder / "adapter_config.json").exists():
        raise UserError(f"{folder}: holds no adapter_config.json; give an adapter's folder, such as runs/X/adapter")
    return folder, read_json(folder / "adapter_config.json")


def _config(request: AdapterRequest, source: Path, given_by: dict[str, Any]) -> RunConfig:
    """The settings with which the rows are read and the base model is loaded."""
    said = given_by.get("base_model_name_or_path")
    file = read_json(source / "config.json").get("gguf_file")
    base = request.base or (f"{said}/{file}" if said and file else said)
    if request.base and said not in (None, request.base):
        log.warning("the adapter says that its base is %s; measured on %s", said, base)
    kind = request.settings.get("task.type") or _TYPES.get(given_by.get("task_type") or "")
    if not base or kind is None:
        raise UserError(f"{source}: adapter_config.json lacks the base model or task_type; give --base or --task.type")
    given = {
        "name": "adapter", "method": "lora", "model.name": base, "model.revision": given_by.get("revision"),
        "task.type": kind, "task.path": request.data, "task.test_path": request.test,
        "retrain.batch_size": 16 if kind in ("text", "tokens") else 8,
    }  # fmt: skip
    return settings({**{key: value for key, value in given.items() if value is not None}, **request.settings})


def _measured(run: Context, request: AdapterRequest, source: Path, folder: Path) -> MeasuredAdapter:
    """The measured adapter: by the folder's measure.json if that is of the same adapter, base, rows and settings."""
    data = _data(run, source)
    parts = [data.train, *(data.evaluation.values() if run.task.held_out else ())]
    encoded = concatenate_datasets(parts).sort("group")  # the same order with --test, beside which nothing is held out
    _refuse_other_classes(run, source)
    model = loaded(run, source)
    facts = {
        "adapter": _digest(source), "base": run.known["base model"], "model": run.config.model.model_dump(),
        "rows": request.rows, "seed": run.config.seed,
        "task": run.config.task.model_dump(exclude={"path", "test_path"}),
        "data": digest(encoded), "precision": str(run.compute), "version": 1,
    }  # fmt: skip
    made_with = json.dumps(facts)
    known = _known(model, folder, made_with)
    if known is not None:
        log.info("%s is of these rows and this adapter; nothing is measured again", folder / "measure.json")
        return known
    log.info("%d rows; if the adapter was trained on them, they flatter it", min(request.rows, len(encoded)))
    batch, most = run.config.retrain.batch_size, run.config.evaluation_batch
    rows = Rows.drawn(encoded, data.collate, range(len(encoded)), request.rows, run.config.seed)
    passes = Passes(rows, likelihood_of(run.task), run.compute, check=run.stop.check, batch=most)
    adapter = measured(model, passes, batch)
    remove(folder / "moments.safetensors")
    ranks.save(adapter.record, folder / "measure.json")
    with replacing(folder / "moments.safetensors") as place:  # last: it says what both files were made with
        save_file(vars(adapter.moments), place, metadata={"made_with": made_with})
    return adapter


def _known(model: PeftModel, folder: Path, made_with: str) -> MeasuredAdapter | None:
    """What was measured with the same before; None if nothing was."""
    place = folder / "moments.safetensors"
    if not place.exists():
        return None
    with safe_open(place, "pt") as file:
        if file.metadata() != {"made_with": made_with}:
            return None
    return MeasuredAdapter(model, ranks.load(folder / "measure.json"), Moments(**load_file(place)))


def loaded(run: Context, source: Path) -> PeftModel:
    """The base model with this adapter, by plain PEFT, on the run's device. Raises UserError if it does not fit."""
    try:
        model = PeftModel.from_pretrained(run.base().model, str(source))
    except (RuntimeError, ValueError) as error:
        told = " ".join(str(error).split())[:300]
        raise UserError(f"{source}: PEFT cannot load it on {run.config.model.name}: {told}") from error
    ours = {f"base_model.model.{name}.lora_A.weight" for name in lora_layers(model)}
    there = {key for key in load_peft_weights(str(source), device="cpu") if key.endswith(".lora_A.weight")}
    if ours != there:
        raise UserError(f"{source}: is of another base than {run.config.model.name}: only one of the two has "
                        f"{min(ours ^ there).removeprefix('base_model.model.')}")  # fmt: skip
    model.to(run.compute.device)
    return model.eval()


def _data(run: Context, source: Path) -> Data:
    """The rows as the adapter reads them: with the tokenizer and the template of its folder, if it has one, and with
    numbers as labels in their own units, not on the scale that a training here would learn them on."""
    if (source / "tokenizer_config.json").exists():
        run.tokenizer = AutoTokenizer.from_pretrained(source)
        run.tokenizer.pad_token = run.tokenizer.pad_token or run.tokenizer.eos_token
    run.task = dataclasses.replace(run.task, own_units=True)
    return run.data


def _refuse_other_classes(run: Context, source: Path) -> None:
    """Raises UserError if the adapter's folder names other classes than the rows have: the numbers of the labels would
    mean other classes, without a word."""
    own = list(run.task.head().get("id2label", {}).values())
    names = list(read_json(source / "config.json").get("id2label", {}).values())
    if own and names and not str(names[0]).startswith("LABEL_") and names != own:
        raise UserError(f"--data: its classes are {', '.join(own)}, those of the adapter {', '.join(names)}")


def _digest(source: Path) -> str:
    """SHA-256 of the adapter's files."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(source.glob("adapter_*")))).hexdigest()


def _cut(run: Context, request: AdapterRequest, source: Path, adapter: MeasuredAdapter) -> Section:
    """Writes the smaller adapter, loads it again in a fresh process, and says what it keeps."""
    out = Path(request.out)
    asked = {name: getattr(request, name) for name in ("keep", "rank", "parameters", "max_rank")}
    chosen = adapter.ranks(**asked)
    layers = tuple(ranks.LayerRank(name, rank) for name, rank in chosen.items())
    # First, so that the folder is known as this command's from its first file on.
    record = ranks.RankRecord(max(chosen.values()), layers, rule="cut", note=_note(request))
    ranks.save(record, out / "ranks.json")
    adapter.save(out, pad=request.padded, **asked)
    run.tokenizer.save_pretrained(out)
    size = sum(rank * cost for rank, cost in zip(chosen.values(), adapter.sizes, strict=True))
    spread = sorted({min(chosen.values()), record.k})
    said = f"{size:,} of {adapter.record.lora_parameters:,} parameters, rank {' to '.join(map(str, spread))}, in {out}"
    _tell("cut to", said)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        found = fresh.submit(_loaded_again, run.config, str(out), request.test is not None).result()
    if found:
        words = f"on --test  {'  '.join(f'{name} {value:.4g}' for name, value in found.items())}"
    else:
        points = [x for x in adapter.evidence.rank_curve if x.at == record.k and request.parameters is None]
        words = "".join(f"keeps {kept_words(point)} of the gain by the folds' estimate" for point in points)
        words = f"loaded  again by plain PEFT; {words or '--test FILE measures it'}"
    _tell(*words.split("  ", 1))
    return Section("The cut", None, f"{said}\n{words}", rank_map(record), "cut")


def _loaded_again(config: RunConfig, folder: str, test: bool) -> dict[str, float]:
    """In a fresh process: the written adapter in plain PEFT and, if asked, its metrics and loss on the test rows."""
    quiet_libraries()
    run = Context(config, StopRequest())
    data = _data(run, Path(folder))
    model = loaded(run, Path(folder))
    if not test:
        return {}
    return evaluate(model, run.task, data, run.compute, run.config.evaluation_batch).metrics


def _tell(what: str, text: Any) -> None:
    console.print(f"{what:>9}  {text}", highlight=False, soft_wrap=True)
