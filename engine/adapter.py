"""`run.py measure` and `run.py cut`: an adapter in a folder or on the hub, on the rows of a file or a data set."""

import dataclasses
import hashlib
import json
import logging
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from datasets import concatenate_datasets
from huggingface_hub import snapshot_download
from peft import PeftModel, load_peft_weights
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, Trainer, TrainingArguments

from autolora.configs.errors import UserError
from autolora.configs.files import to_yaml
from autolora.configs.layers import settings
from autolora.configs.requests import AdapterRequest
from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.api.adapter import MeasuredAdapter, measured, refuse_sizes
from autolora.engine.disk.files import read_json, remove, replacing, write_text
from autolora.engine.measure.likelihood import likelihood_of
from autolora.engine.measure.passes import Moments, Passes
from autolora.engine.measure.rows import Rows
from autolora.engine.ranks.picture import rank_map
from autolora.engine.ranks.words import kept_words
from autolora.engine.report.answer import answer_sections
from autolora.engine.report.page import Section, write_page
from autolora.engine.retrain.evaluate import tokens
from autolora.engine.run.context import Context
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.terminal.console import console
from autolora.engine.terminal.loading import quiet_libraries
from autolora.problems.data import Data
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
    if not folder.exists() and name.count("/") != 1:
        raise UserError(f"{name}: no such folder, and no name on the hub")
    if not folder.exists():
        try:
            folder = Path(snapshot_download(name))
        except (OSError, ValueError) as error:
            raise UserError(
                f"{name}: no such folder, and not to be had from the hub ({str(error).split(chr(10))[0]})"
            ) from error
    if not (folder / "adapter_config.json").exists():
        raise UserError(
            f"{folder}: holds no adapter_config.json; give the folder of an adapter, such as runs/X/adapter"
        )
    return folder, read_json(folder / "adapter_config.json")


def _config(request: AdapterRequest, source: Path, given_by: dict[str, Any]) -> RunConfig:
    """The settings with which the rows are read and the base model is loaded."""
    base = request.base or given_by.get("base_model_name_or_path")
    file = read_json(source / "config.json").get("gguf_file") if (source / "config.json").exists() else None
    if request.base is None and base and file:
        base = f"{base}/{file}"
    if not base:
        raise UserError(f"{source}: adapter_config.json names no base model; give --base")
    if request.base and given_by.get("base_model_name_or_path") not in (None, request.base):
        log.warning("the adapter says that its base is %s; measured on %s", given_by["base_model_name_or_path"], base)
    kind = request.settings.get("task.type") or _TYPES.get(given_by.get("task_type") or "")
    if kind is None:
        raise UserError(f"{source}: adapter_config.json has no task_type; give --task.type")
    given = {
        "name": "adapter", "method": "lora", "model.name": base, "model.revision": given_by.get("revision"),
        "task.type": kind, "task.path": request.data, "task.test_path": request.test,
        "retrain.batch_size": 16 if kind in ("text", "tokens") else 8,
    }  # fmt: skip
    return settings({**{key: value for key, value in given.items() if value is not None}, **request.settings})


def _measured(run: Context, request: AdapterRequest, source: Path, folder: Path) -> MeasuredAdapter:
    """The measured adapter: by the folder's measure.json if that is of the same adapter, base, rows and settings."""
    data = _data(run, source)
    run.told.add("pooler")  # nothing is trained here
    parts = [data.train, *(data.evaluation.values() if run.task.held_out else ())]
    encoded = concatenate_datasets(parts).sort("group")  # the same order with --test, beside which nothing is held out
    _refuse_other_classes(run, source)
    model = loaded(run, source)
    made_with = {
        "adapter": _digest(source), "base": run.weights.loaded, "model": run.config.model.model_dump(),
        "rows": request.rows, "seed": run.config.seed,
        "task": run.config.task.model_dump(exclude={"path", "test_path"}),
        "data": digest(encoded), "precision": str(run.compute), "version": 1,
    }  # fmt: skip
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
        save_file(vars(adapter.moments), place, metadata={"made_with": json.dumps(made_with)})
    return adapter


def _known(model: PeftModel, folder: Path, made_with: dict[str, Any]) -> MeasuredAdapter | None:
    """What was measured with the same before; None if nothing was."""
    place = folder / "moments.safetensors"
    if not place.exists() or not (folder / "measure.json").exists():
        return None
    with safe_open(place, "pt") as file:
        before = json.loads((file.metadata() or {}).get("made_with", "{}"))
    if before != json.loads(json.dumps(made_with)):
        return None
    return MeasuredAdapter(model, ranks.load(folder / "measure.json"), Moments(**load_file(place)))


def loaded(run: Context, source: Path) -> PeftModel:
    """The base model with this adapter, by plain PEFT, on the run's device. Raises UserError if it does not fit."""
    base = run.base().model
    try:
        model = PeftModel.from_pretrained(base, str(source))
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
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
        run.task.adapt_tokenizer(run.tokenizer)
    data, scale = run.data, run.task.label_scale
    if scale is None:
        return data
    run.task.label_scale = None

    def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = data.collate(rows)
        return batch | {"labels": batch["labels"] * scale.deviation + scale.mean}

    return dataclasses.replace(data, collate=collate)


def _refuse_other_classes(run: Context, source: Path) -> None:
    """Raises UserError if the adapter's folder names other classes than the rows have: the numbers of the labels would
    mean other classes, without a word."""
    beside, own = source / "config.json", run.task.head().get("id2label")
    names = list(read_json(beside).get("id2label", {}).values()) if own and beside.exists() else []
    if own and names and not str(names[0]).startswith("LABEL_") and names != list(own.values()):
        raise UserError(f"--data: its classes are {', '.join(own.values())}, those of the adapter {', '.join(names)}")


def _digest(source: Path) -> str:
    """SHA-256 of the adapter's files."""
    files = sorted(source.glob("adapter_*"))
    if len(files) < 2:
        raise UserError(f"{source}: holds no adapter_model.safetensors")
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


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
    said = f"{size:,} of {adapter.record.lora_parameters:,} parameters, rank {_range(chosen.values())}, in {out}"
    _tell("cut to", said)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
        found = fresh.submit(_loaded_again, run.config, str(out), request.test is not None).result()
    points = [point for point in adapter.evidence.rank_curve if point.at == record.k and request.parameters is None]
    if found:
        words = "on --test", "  ".join(f"{name} {value:.4g}" for name, value in found.items())
    else:
        kept = f"keeps {kept_words(points[0])} of the gain by the folds' estimate" if points else "was not measured"
        words = "loads", f"in plain PEFT; {kept}; --test FILE evaluates it"
    _tell(*words)
    return Section("The cut", None, f"{said}\n{' '.join(words)}", rank_map(record), "cut")


def _loaded_again(config: RunConfig, folder: str, test: bool) -> dict[str, float]:
    """In a fresh process: the written adapter in plain PEFT and, if asked, its metrics and loss on the test rows."""
    quiet_libraries()
    run = Context(config, StopRequest())
    data = _data(run, Path(folder))  # first: the task learns its classes from the rows
    (rows, *_), collate = data.evaluation.values(), data.collate
    model = loaded(run, Path(folder))
    if not test:
        return {}
    if not run.task.reads_outputs:
        of_tokens = tokens(model, run, collate, rows)
        return run.task.token_metrics(of_tokens.loss, of_tokens.accuracy) | {"loss": of_tokens.loss}
    with tempfile.TemporaryDirectory() as place:
        options = TrainingArguments(place, per_device_eval_batch_size=64, report_to=[], remove_unused_columns=False)
        output = Trainer(model, options, data_collator=collate).predict(rows)
    outputs: Any = output.predictions
    labels: Any = output.label_ids
    return run.task.metrics(outputs, labels, rows) | {"loss": (output.metrics or {})["test_loss"]}


def _range(values: Any) -> str:
    found = sorted(set(values))
    return f"{found[0]}" if len(found) == 1 else f"{found[0]} to {found[-1]}"


def _tell(what: str, text: Any) -> None:
    console.print(f"{what:>9}  {text}", highlight=False, soft_wrap=True)
