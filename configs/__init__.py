"""The configuration: one schema for the YAML files, the command line and the documentation."""
