"""The report of a prediction: one page of HTML that needs no other file."""

import base64
import html
import json
from collections.abc import Iterable
from typing import Any

from matplotlib.figure import Figure

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
        _image(forecast.plot(), "curves and spectrum"),
        "<h2>Verdicts</h2>",
        _table(["verdict", "assumption", "why"], verdicts),
        "<h2>Numbers</h2>",
        _table(["what", "value"], numbers),
        "<h2>Curves</h2>",
        _table([_text(x) for x in header], cells),
        "<h2>Data</h2>",
        _list(forecast.notes),
        "<h2>To repeat it</h2>",
        f"<pre>{_text(settings)}</pre>",
    ]
    return _document(forecast.title, parts)


def tuning_page(tuning: Any) -> str:
    """The HTML of a `Tuning`."""
    header, *cells = tuning.cells()
    parts = [
        f"<h1>{_text(tuning.title)}</h1>",
        _image(tuning.plot(), "rates and risks"),
        "<h2>Choices</h2>",
        _table(header, [[_text(cell) for cell in row] for row in cells]),
        "<h2>Gains</h2>",
        _list(tuning.lines()),
        "<h2>Data</h2>",
        _list(tuning.notes),
    ]
    return _document(tuning.title, parts)


def _document(title: str, parts: list[str]) -> str:
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>'
        f"{_text(title)}</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _image(drawn: Figure, told: str) -> str:
    data = base64.b64encode(drawing.picture(drawn, "png")).decode()
    return f'<img alt="{told}" src="data:image/png;base64,{data}">'


def _list(lines: Iterable[str]) -> str:
    return "<ul>" + "".join(f"<li>{_text(line)}</li>" for line in lines) + "</ul>"


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in header) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    return "<table>" + "\n".join(lines) + "</table>"


def _text(value: Any) -> str:
    return html.escape(str(value))
