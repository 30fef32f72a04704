"""Searches over settings: Optuna chooses, and each trial is an ordinary run."""
