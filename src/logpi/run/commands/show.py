"""logpi show METHOD"""

from rich.console import Console
from rich.syntax import Syntax

from logpi.errors import LogpiError
from logpi.run.setup import find_method
from logpi.run.show import page_source

USAGE = """\
usage: logpi show METHOD

The method's page, then the source of exactly the functions it calls, then the loop."""


def main(args: list[str]) -> None:
    if not args or args[0] in ("-h", "--help"):
        print(USAGE)
        return
    if args[1:]:
        raise LogpiError(f"logpi show takes one method, not {args[1]!r} too: logpi show {args[0]}.")
    text = page_source(type(find_method(args[0])))
    console = Console()
    shown = Syntax(text, "python", background_color="default") if console.is_terminal else text
    console.print(shown, markup=False, highlight=False, soft_wrap=True)
