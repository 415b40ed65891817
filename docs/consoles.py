"""What the `console` blocks of these pages show is what the commands print: `python docs/consoles.py` writes them anew."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parent
PAGES = ("exactness.md",)
BLOCK = re.compile(r"```console\n\$ (logpi [^\n]*)\n(.*?)```", re.DOTALL)


def said(command: str) -> str:
    """What a command prints, without spaces at the ends of lines."""
    words = [sys.executable, "-m", *shlex.split(command)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    done = subprocess.run(words, cwd=DOCS.parent, env=env, capture_output=True, text=True)
    return "".join(f"{line.rstrip()}\n" for line in (done.stdout + done.stderr).splitlines())


if __name__ == "__main__":
    for page in (DOCS / name for name in PAGES):
        text = page.read_text()
        fresh = BLOCK.sub(lambda m: f"```console\n$ {m[1]}\n{said(m[1])}```", text)
        if fresh != text:
            page.write_text(fresh)
            print(f"{page.name} written anew")
