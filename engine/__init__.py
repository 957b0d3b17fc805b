"""What runs the program: each folder imports only the folders below it (pyproject.toml, import-linter)."""
