"""A rollout token by token: as tables for a terminal, as one HTML file that asks nothing of the network, as JSON for the lab."""

import json
import re
from html import escape
from pathlib import Path

from rich.table import Table
from rich.text import Text

from logpi.run.files import rounded
from logpi.run.tokens import COLUMNS, Rollout, Row, Token

COLOURED = ("psi", "rho", "entropy", "kl_old", "kl_ref")  # what the colour may say
WIDE, LEAST = 100, ("now", "weight", "k1", "target")  # columns of a terminal from which on it has these, too
TOLD = ("reward", "kl", "clip_fraction", "entropy", "surrogate", "grad_norm")  # of the whole batch


def number(x: float) -> str:
    """Three digits, a real minus."""
    return f"{x:.3g}".replace("-", "−") if x else "0"


def brief(x: float) -> str:
    """The same for a terminal: two decimals, or the size of what is less."""
    small = f"{x:.0e}" if abs(x) < 0.005 else f"{x:.2f}" if abs(x) < 100 else f"{x:.3g}"
    return small.replace("-", "−") if x else "0"


def table(shown: Rollout, row: Row, width: int) -> Table:
    """One row for a terminal; green where Psi raises a token, red where it lowers it."""
    found = Table(box=None, padding=(0, 1, 0, 0))
    columns = [x for x in shown.columns if width >= WIDE or x not in LEAST]
    first = next(k for k, x in enumerate(row.tokens) if x.figures)
    found.add_column("token", min_width=min(16, max(len(x.text) for x in row.tokens[first:])), no_wrap=True)
    for name in columns:
        found.add_column(COLUMNS[name][0], justify="right", no_wrap=True, min_width=5)
    found.add_column("")
    for x in row.tokens[first:]:
        psi = x.figures.get("psi", 0.0)
        style = "dim" if not x.figures else "green" if psi > 0 else "red" if psi < 0 else ""
        cells = (brief(x.figures[name]) if x.figures else "" for name in columns)
        found.add_row(Text(x.text, style), *cells, Text(x.why, "dim"))
    return found


def heading(row: Row) -> str:
    """The row's number, what its Psi is made of, and its prompt."""
    first = next(k for k, x in enumerate(row.tokens) if x.figures)
    return f"row {row.number}: {row.made_of}\n{''.join(x.text for x in row.tokens[:first])}"


def page(shown: Rollout) -> str:
    """The file: each completion as its tokens, coloured by Psi or by another figure; a token tells its figures when it is
    pointed at or chosen, and a table under each completion has them all."""
    most = max((abs(x.figures["psi"]) for row in shown.rows for x in row.tokens if x.figures), default=0.0) or 1.0
    metrics = "".join(
        f"<div><dt>{escape(k.replace('_', ' '))}</dt><dd>{number(shown.metrics[k])}</dd></div>"
        for k in TOLD
        if k in shown.metrics
    )
    buttons = "".join(
        f'<label><input type="radio" name="by" value="{k}"{" checked" * (k == "psi")}>'
        f"<span>{COLUMNS[k][0]}</span></label>"
        for k in COLOURED
        if k in shown.columns
    )
    words = "".join(f"<div><dt>{COLUMNS[k][0]}</dt><dd>{escape(COLUMNS[k][1])}</dd></div>" for k in shown.columns)
    data = [[[x.figures.get(k) for k in shown.columns] for x in row.tokens] for row in shown.rows]
    head = {"columns": [*shown.columns], "names": [COLUMNS[k][0] for k in shown.columns], "rows": data}
    parts = {
        "TITLE": escape(shown.title),
        "ORIGIN": escape(shown.origin),
        "METRICS": metrics,
        "BUTTONS": buttons,
        "WORDS": words,
        "ROWS": "".join(section(shown, k, row, most) for k, row in enumerate(shown.rows)),
        "DATA": json.dumps(head).replace("<", "\\u003c"),
    }
    frame = Path(__file__).with_name("tokens.html").read_text()
    return re.sub("@([A-Z]+)@", lambda name: parts[name[1]], frame)


def record(shown: Rollout) -> str:
    """The same for the lab, which draws it: columns with what they mean, and of each token text, reason and figures."""
    rows = [
        {
            "number": row.number,
            "made_of": row.made_of,
            "group": [rounded(x) for x in row.group],
            "place": row.place,
            "tokens": [
                [x.text, x.why, [rounded(x.figures[k]) for k in shown.columns] if x.figures else None]
                for x in row.tokens
            ],
        }
        for row in shown.rows
    ]
    told = {"title": shown.title, "iteration": shown.iteration, "origin": shown.origin}
    told["metrics"] = {k: rounded(x) for k, x in shown.metrics.items() if x is not None}
    return json.dumps(told | {"columns": [[k, *COLUMNS[k]] for k in shown.columns], "rows": rows}) + "\n"


def section(shown: Rollout, k: int, row: Row, most: float) -> str:
    """A completion: its tokens, and all figures in a table."""
    chips = "".join(chip(shown, f"{k},{t}", x, most) for t, x in enumerate(row.tokens))
    heads = "".join(f'<th title="{escape(COLUMNS[name][1])}">{COLUMNS[name][0]}</th>' for name in shown.columns)
    lines = "".join(
        f"<tr><th>{escape(x.text)}</th>"
        + "".join(f"<td>{number(x.figures[name])}</td>" for name in shown.columns)
        + f'<td class="why">{escape(x.why)}</td></tr>'
        for x in row.tokens
        if x.figures
    )
    return (
        f'<section><h2>Row {row.number}<small>{escape(row.made_of)}</small></h2><p class="text">{chips}</p>'
        f'<p class="told" aria-live="polite"></p><details><summary>All figures</summary><div class="wide"><table>'
        f"<thead><tr><th>token</th>{heads}<td></td></tr></thead><tbody>{lines}</tbody></table></div></details></section>"
    )


def chip(shown: Rollout, place: str, x: Token, most: float) -> str:
    """A token; what is not the model's own is plain text."""
    if not x.figures:
        return f'<span class="other" title="{escape(x.why)}">{escape(x.text)}</span>'
    psi = x.figures["psi"]
    told = " · ".join(f"{COLUMNS[name][0]} {number(x.figures[name])}" for name in shown.columns)
    kind = "clipped" if x.why.startswith("clipped") else "still" if psi == 0 else ""
    return (
        f'<button class="{kind} {"up" if psi > 0 else "down"}" style="--much:{abs(psi) / most:.2f}" data-at="{place}"'
        f' data-why="{escape(x.why)}" title="{escape(told)}{escape(" · " + x.why if x.why else "")}">{escape(x.text)}'
        "</button>"
    )
