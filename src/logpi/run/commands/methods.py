"""logpi methods"""

from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from logpi.run.flags import parse
from logpi.run.show import methods_table


@dataclass
class Methods:
    """The table of methods, read from their pages."""


def main(args: list[str]) -> None:
    parse(Methods, args, "logpi methods")
    table = Table("method", "psi", "objective", "average", "step", box=None, header_style="bold")
    for row in methods_table():
        table.add_row(*row)
    Console(highlight=False).print(table)
