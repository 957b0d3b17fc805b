"""The settings: a class for each choice, from which YAML files, command line and documentation
follow."""
