"""Measure a search: the share of each singular component, which rank is enough, and the ranks by a
rule."""
