"""Which ranks are best at equal size? The runs of table1_minilm.yaml, kept in a table over several machines."""
