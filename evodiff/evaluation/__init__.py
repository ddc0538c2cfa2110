"""Evaluation: what a trained network is worth, by quality and by latency."""
