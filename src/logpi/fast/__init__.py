"""Twins of slow functions: the same signatures, compiled. Each equals its plain one in a test; `--fast off` leaves them out."""
