"""The analysis of a rollout: from counts and samples to a verdict with its evidence."""
