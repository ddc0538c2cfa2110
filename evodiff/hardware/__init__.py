"""Targets: what they are, how long an operation takes on them, and how much memory they have."""
