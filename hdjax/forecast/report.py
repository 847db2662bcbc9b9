"""The report of a prediction: one page of HTML that needs no other file."""

import base64
import html
import json
from typing import Any

from hdjax.forecast import drawing

_STYLE = """
body { font-family: sans-serif; max-width: 62em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: 1em 0; } img { max-width: 100%; }
td, th { border-bottom: 1px solid #ccc; padding: .25em .8em; text-align: left; }
.holds { color: #00704f; } .doubtful { color: #a06000; } .fails { color: #b03000; }
pre { background: #f4f4f4; padding: .8em; overflow-x: auto; }
"""
_MEANING = {
    "holds": "The theory holds for these data as far as the diagnosis can tell.",
    "doubtful": "The prediction is doubtful: means may be 10 % off or more.",
    "fails": "The theory fails for these data: do not use the prediction.",
}


def page(forecast: Any) -> str:
    """The HTML of a `Forecast`."""
    image = base64.b64encode(drawing.picture(forecast.plot(), "png")).decode()
    verdict = forecast.verdict
    verdicts = [
        [f'<span class="{v.verdict}">{v.verdict}</span>', _text(v.name), _text(v.reason)]
        for v in forecast.verdicts
    ]
    numbers = [[_text(name), f"{value:.5g}"] for name, value in forecast.numbers.items()]
    header, *cells = forecast.cells()
    settings = json.dumps(forecast.settings, indent=1)
    parts = [
        f"<h1>{_text(forecast.title)}</h1>",
        f'<p class="{verdict}"><b>{_MEANING[verdict]}</b></p>',
        f'<img alt="curves and spectrum" src="data:image/png;base64,{image}">',
        "<h2>Verdicts</h2>",
        _table(["verdict", "assumption", "why"], verdicts),
        "<h2>Numbers</h2>",
        _table(["what", "value"], numbers),
        "<h2>Curves</h2>",
        _table([_text(x) for x in header], cells),
        "<h2>Data</h2>",
        "<ul>" + "".join(f"<li>{_text(note)}</li>" for note in forecast.notes) + "</ul>",
        "<h2>To repeat it</h2>",
        f"<pre>{_text(settings)}</pre>",
    ]
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>'
        f"{_text(forecast.title)}</title><style>{_STYLE}</style></head>\n<body>\n{body}\n"
        "</body></html>\n"
    )


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in header) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    return "<table>" + "\n".join(lines) + "</table>"


def _text(value: Any) -> str:
    return html.escape(str(value))
