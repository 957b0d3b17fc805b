"""The stages of the program; each folder imports only those below it in pyproject.toml's list (import-linter)."""
