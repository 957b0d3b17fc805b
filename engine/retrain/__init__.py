"""Stage 2: train plain LoRA, or a baseline, with one trainer; evaluate it; write the adapter and metrics.json."""
