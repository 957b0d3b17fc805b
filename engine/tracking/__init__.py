"""Curves while a run goes: wandb and metrics.jsonl."""
