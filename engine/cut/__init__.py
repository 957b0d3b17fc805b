"""Cut a trained LoRA to fewer ranks: other bases of B A, ranks for a size, and plain PEFT in, plain
PEFT out."""
