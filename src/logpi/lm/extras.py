"""What a task or a reward needs beside the library."""

from importlib.util import find_spec

from logpi.errors import LogpiError


def must_have(package: str, who: str) -> None:
    """Refuse in a sentence what cannot be done without it."""
    if find_spec(package.replace("-", "_")) is None:
        raise LogpiError(f'{who} needs {package}: pip install "logpi[tasks]"')
