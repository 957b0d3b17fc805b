"""The stages of the program. A folder imports only folders below it in the import-linter list of
pyproject.toml."""
