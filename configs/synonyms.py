"""Names that other trainers give to settings -> what they are called here."""

from collections.abc import Mapping

# Names -> the keys that set the same thing. A name with a dot holds only with that section.
_ROWS = {
    "lr": "search.learning_rate retrain.learning_rate",
    "batch_size train_batch_size per_device_train_batch_size": "search.batch_size retrain.batch_size",
    "per_device_eval_batch_size": "retrain.eval_batch_size",
    "gradient_accumulation_steps": "search.gradient_accumulation retrain.gradient_accumulation",
    "max_grad_norm": "search.gradient_clipping retrain.gradient_clipping",
    "lr_scheduler lr_scheduler_type": "search.scheduler retrain.scheduler",
    "epoch num_epochs num_train_epochs": "retrain.epochs",
    "logging_steps": "search.log_every",
    "save_steps": "search.checkpoint_every retrain.checkpoint_every",
    "r rank lora_r lora_rank": "lora.r lora.k",
    "alpha": "lora.lora_alpha",
    "lora_dropout": "lora.dropout",
    "model base_model model_name model_name_or_path model.path": "model.name",
    "data dataset dataset_name data_path data_dir train_file train_path": "task.path",
    "validation_file eval_file": "task.validation_path",
    "test_file": "task.test_path",
    "max_len max_seq_length model_max_length cutoff_len": "task.max_length",
    "output output_dir": "name runs_folder",
    "run_name": "name",
    "gpu gpus cuda": "device",
    "rslora use_rslora": "retrain.scale",
    "fp16 bf16 mixed_precision": "precision",
    "report_to": "tracking.wandb",
    "wandb_project": "tracking.project",
}
SYNONYMS: Mapping[str, list[str]] = {name: keys.split() for names, keys in _ROWS.items() for name in names.split()}

_RESUMED, _NO_DORA = (
    "the same command resumes a stopped run",
    "DoRA is not supported: ranks are learned for LoRA alone",
)
SETTINGLESS = {"resume": _RESUMED, "resume_from_checkpoint": _RESUMED, "dora": _NO_DORA, "use_dora": _NO_DORA}
"""Names of what has no setting here -> what happens without one, or that it is not supported."""
