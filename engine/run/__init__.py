"""One run before anything is trained: its context, its folder, and whether it may start, resume or
overwrite."""
