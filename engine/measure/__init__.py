"""What LoRA is worth on held-out rows: its gain, what fewer ranks keep of it, and the share of
every layer."""
