"""The pieces of a page: escaped text, tables, folded parts, its looks. No script, no font, nothing from a network.

Every text that is not ours goes through ``text``: it becomes characters on the page and nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from flowcore.graph.svg import STATES, STYLE

VALUE_CHARACTERS = 2000
_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)?")
#: Control characters, lone surrogates, and those that turn the direction of the text that follows.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]")

_LAYOUT = """
*{box-sizing:border-box}
body.flowcore{margin:0 auto;max-width:1180px;padding:24px 20px 60px;background:var(--fc-ground);color:var(--fc-ink);
 font:15px/1.45 system-ui,sans-serif}
.flowcore h1{font-size:26px;margin:0;overflow-wrap:anywhere;line-height:1.25}
.flowcore h2{font-size:18px;margin:32px 0 10px;border-bottom:1px solid var(--fc-line);padding-bottom:4px}
.flowcore .soft{color:var(--fc-soft)}.flowcore .small{font-size:13px}
.flowcore code,.flowcore pre,.flowcore .mono{font:12.5px/1.45 ui-monospace,Menlo,Consolas,monospace}
.flowcore code{overflow-wrap:anywhere;white-space:pre-wrap}
.flowcore pre{margin:6px 0;padding:10px 12px;background:var(--fc-card);border:1px solid var(--fc-line);border-radius:6px;
 white-space:pre-wrap;overflow-wrap:anywhere;max-height:32em;overflow-y:auto;unicode-bidi:isolate}
.flowcore table{border-collapse:collapse;width:100%;margin:6px 0}
.flowcore th{text-align:left;font-weight:600;color:var(--fc-soft);font-size:13px}
.flowcore th,.flowcore td{padding:4px 14px 4px 0;vertical-align:top;overflow-wrap:anywhere;
 border-bottom:1px solid color-mix(in srgb,var(--fc-line) 35%,transparent);overflow-wrap:anywhere;unicode-bidi:isolate}
.flowcore td.num,.flowcore th.num{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap;overflow-wrap:normal}
.flowcore td.key{width:13em;min-width:8em}
.flowcore .badge{display:inline-block;border:1.5px solid currentColor;border-radius:99px;padding:1px 12px;font-weight:600}
.flowcore .chart{overflow-x:auto;border:1px solid var(--fc-line);border-radius:8px;background:var(--fc-ground)}
.flowcore .chart svg{display:block;margin:0 auto}
.flowcore .chart.wide svg{max-width:none}
.flowcore details>summary{cursor:pointer}.flowcore details{margin:4px 0}
.flowcore details.task{border-left:2px solid color-mix(in srgb,var(--fc-line) 45%,transparent);padding-left:10px;margin:2px 0}
.flowcore details.task>summary{display:grid;grid-template-columns:1.2em minmax(10em,2fr) 7.5em 5.5em 3fr;gap:8px;padding:3px 4px;
 border-radius:4px;align-items:baseline}
.flowcore details.task>summary:hover{background:var(--fc-card)}
.flowcore details.task>summary>*{overflow-wrap:anywhere;unicode-bidi:isolate}
.flowcore details.task>summary::before{content:none}
.flowcore details.task>.body{margin:2px 0 10px 14px}
.flowcore summary .time{text-align:right;font-variant-numeric:tabular-nums}
.flowcore details.task>summary .name::before{content:"▸ ";color:var(--fc-soft)}
.flowcore details.task[open]>summary .name::before{content:"▾ "}
.flowcore .fail{border:1.5px solid var(--fc-FAILED);border-radius:8px;padding:8px 14px;margin:10px 0}
@media(max-width:700px){.flowcore details.task>summary{grid-template-columns:1.2em 1fr auto auto}
 .flowcore details.task>summary .note{grid-column:2/-1}}
@media print{body.flowcore{max-width:none;padding:0;font-size:11px}.flowcore pre{max-height:none}
 .flowcore .chart{overflow:visible}
 .flowcore .chart.wide svg{max-width:100%}
 .flowcore details::details-content{content-visibility:visible;block-size:auto}.flowcore details.task>summary{break-inside:avoid}}
"""
CSS = STYLE + _LAYOUT.replace("\n", "") + "".join(f".flowcore .{name}{{color:var(--fc-{name})}}" for name in STATES)


def text(value: object) -> str:
    """Any text as HTML's characters: escaped, without terminal colours, hidden characters made visible."""
    plain = _ANSI.sub("", str(value).replace("\r\n", "\n").replace("\r", "\n"))
    return escape(_HIDDEN.sub("\N{REPLACEMENT CHARACTER}", plain))


def cut(value: str, characters: int = VALUE_CHARACTERS) -> str:
    """The value, with what is left out said in numbers where it is long."""
    return value if len(value) <= characters else f"{value[:characters]} … ({len(value) - characters:,} characters more)"


def value(data: Any, characters: int = VALUE_CHARACTERS) -> str:
    """A JSON value as code."""
    shown = json.dumps(data, ensure_ascii=False, default=str)
    return f"<code>{text(cut(shown, characters))}</code>"


def mark(state: str) -> str:
    return f'<span class="{text(state)}">{STATES[state][0]}</span>'


def badge(state: str) -> str:
    return f'<span class="badge {text(state)}">{STATES[state][0]} {text(state)}</span>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """A table; cells are HTML already. ``numbers`` are the columns that are set to the right."""
    right = [' class="num"' if place in numbers else "" for place in range(max(len(head), 2) + 8)]
    top = "".join(f"<th{right[place]}>{text(name)}</th>" for place, name in enumerate(head))
    body = "".join(
        "<tr>" + "".join(f"<td{right[place]}>{cell}</td>" for place, cell in enumerate(row)) + "</tr>" for row in rows
    )
    return f"<table>{f'<thead><tr>{top}</tr></thead>' if head else ''}<tbody>{body}</tbody></table>"


def pairs(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values; a value is HTML already."""
    cells = "".join(f'<tr><td class="key soft">{text(name)}</td><td>{shown}</td></tr>' for name, shown in rows if shown)
    return f"<table>{cells}</table>" if cells else ""


def folded(summary: str, body: str, *, opened: bool = False) -> str:
    return f"<details{' open' if opened else ''}><summary>{summary}</summary>{body}</details>"


def section(title: str, body: str) -> str:
    return f"<section><h2>{text(title)}</h2>{body}</section>" if body else ""


def left_out(count: int, what: str) -> str:
    """A line that says how many were left out; empty for none."""
    return f'<p class="soft small">{count:,} more {text(what)} are left out.</p>' if count > 0 else ""


def document(title: str, body: str) -> str:
    """A whole page. Its policy forbids scripts and everything from outside, whatever is in the body."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        '<link rel="icon" href="data:,">'
        f'<title>{text(title)}</title><style>{CSS}</style></head><body class="flowcore">{body}</body></html>\n'
    )
