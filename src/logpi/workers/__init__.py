"""Environments one by one: watched, saved, and run in processes of their own. Nothing here imports torch."""
