"""Metrics of what serves."""
