"""What runs the program: each room imports only the rooms below it (pyproject.toml, import-linter)."""
