"""Files that are whole or not there: atomic writes, checkpoints, one process at a time in a folder."""
