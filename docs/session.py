"""Records a first session in a real terminal: docs/session.gif (what one sees) and docs/session.md (what was typed and said).

pip install pyte pillow; python docs/session.py
"""

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import pyte
from PIL import Image, ImageDraw, ImageFont

HERE = Path(__file__).parent
COLUMNS, ROWS = 110, 26
FONT = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSansMono.ttf"), 13)
WIDE, HIGH = 8, 17
PAPER, INK, PROMPT = "#11151c", "#d8dee9", "#88c0d0"
COLOURS = {
    "green": "#a3be8c",
    "red": "#bf616a",
    "blue": "#81a1c1",
    "cyan": "#88c0d0",
    "magenta": "#b48ead",
    "brown": "#ebcb8b",
}


@dataclass
class Step:
    typed: str
    interrupt_at: str = ""  # Ctrl-C once this stands on the screen
    why: str = ""


SESSION = [
    Step("logpi train ppo --steps 400000 --seed 1", "of 400,000", "Train. After a few seconds: Ctrl-C."),
    Step("logpi resume runs/CartPole-v1/ppo/1-*", "", "Go on, bit for bit, to the end."),
    Step("logpi train a2c --steps 100000 --seeds 2 --evaluate 20", "", "Another method, two seeds."),
    Step("logpi runs", "", "What there is."),
    Step("logpi plot runs/CartPole-v1 --out curves.png", "", "Learning curves."),
    Step("logpi compare runs/CartPole-v1/ppo/1-* runs/CartPole-v1/a2c/0-*", "", "What differs."),
    Step("logpi play runs/CartPole-v1/ppo/1-* --video out.mp4", "", "Watch it."),
]  # fmt: skip


class Terminal:
    """A pseudo-terminal with a shell command in it, and the pictures of its screen."""

    def __init__(self) -> None:
        self.screen = pyte.HistoryScreen(COLUMNS, ROWS, history=2000)
        self.stream = pyte.ByteStream(self.screen)
        self.frames: list[tuple[Image.Image, int]] = []  # with milliseconds

    def type(self, text: str) -> None:
        self.stream.feed(b"\x1b[36m$\x1b[0m ")
        for i in range(0, len(text), 3):
            self.stream.feed(text[i : i + 3].encode())
            self.shoot(40)
        self.stream.feed(b"\r\n")

    def run(self, step: Step, cwd: Path) -> str:
        """What the command printed; a picture for every change that stands for a tenth of a second."""
        child, handle = pty.fork()
        if not child:
            os.chdir(cwd)
            os.execvpe(
                "bash", ["bash", "-c", step.typed], os.environ | {"TERM": "xterm-256color", "OMP_NUM_THREADS": "1"}
            )
        fcntl.ioctl(handle, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        said, asked, shot = b"", False, time.monotonic()
        while True:
            if select.select([handle], [], [], 0.05)[0]:
                try:
                    data = os.read(handle, 65536)
                except OSError:
                    break
                if not data:
                    break
                said += data
                self.stream.feed(data)
            if time.monotonic() - shot > 0.25:
                self.shoot(120)
                shot = time.monotonic()
            if step.interrupt_at and not asked and step.interrupt_at in "\n".join(self.screen.display):
                time.sleep(2.0)
                asked = True
                os.kill(child, signal.SIGINT)
        os.waitpid(child, 0)
        self.shoot(2500)
        return said.decode(errors="replace")

    def shoot(self, milliseconds: int) -> None:
        picture = Image.new("RGB", (COLUMNS * WIDE + 24, ROWS * HIGH + 24), PAPER)
        pen = ImageDraw.Draw(picture)
        for y in range(ROWS):
            for x in range(COLUMNS):
                cell = self.screen.buffer[y][x]
                if cell.data.strip():
                    colour = COLOURS.get(
                        cell.fg, INK if cell.fg == "default" else f"#{cell.fg}" if len(cell.fg) == 6 else INK
                    )
                    pen.text((12 + x * WIDE, 12 + y * HIGH), cell.data, fill=colour, font=FONT)
        if self.frames and self.frames[-1][0].tobytes() == picture.tobytes():
            self.frames[-1] = (picture, self.frames[-1][1] + milliseconds)
        else:
            self.frames.append((picture, milliseconds))


def plain(said: str) -> str:
    """What stays on the screen of it: without colours, and without the live table that went away."""
    screen = pyte.HistoryScreen(COLUMNS, 200)
    pyte.Stream(screen).feed(said)
    return "\n".join(line.rstrip() for line in screen.display).strip("\n")


def main() -> None:
    terminal, cwd = Terminal(), Path(tempfile.mkdtemp())
    told = [
        "# A first session\n\nRecorded by `docs/session.py` in a real terminal; moving: [session.gif](session.gif).\n"
    ]
    for step in SESSION:
        terminal.type(step.typed)
        said = plain(terminal.run(step, cwd))
        told.append(f"{step.why}\n\n```console\n$ {step.typed}\n{re.sub(r' +$', '', said, flags=re.MULTILINE)}\n```\n")
    frames = [frame.quantize(32) for frame, _ in terminal.frames]
    times = [milliseconds for _, milliseconds in terminal.frames]
    frames[0].save(HERE / "session.gif", save_all=True, append_images=frames[1:], duration=times, loop=0, optimize=True)
    (HERE / "session.md").write_text("\n".join(told) + "\n![curves](session-curves.png)\n")
    shutil.copy(cwd / "curves.png", HERE / "session-curves.png")
    film = cwd / "out.mp4"
    subprocess.run(["ls", "-l", film], check=True)
    print(
        f"{len(frames)} pictures, {sum(times) / 1000:.0f} s, {(HERE / 'session.gif').stat().st_size / 1e6:.1f} MB; runs in {cwd}"
    )


if __name__ == "__main__":
    main()
