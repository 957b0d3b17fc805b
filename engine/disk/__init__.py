"""Files that are either complete or absent: atomic writes, checkpoints, one process at a time in a
folder."""
