"""Runs: settings, folders, checkpoints, evaluation, plots and the command line."""
