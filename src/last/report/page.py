"""One HTML page that holds a whole report: it needs no other file, no script and no network."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from last.files import write_text

_LONG = 60  # letters of a fact that has a line of its own
_KINDS = {".png": "image/png", ".gif": "image/gif", ".jpg": "image/jpeg", ".svg": "image/svg+xml"}

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #222; --quiet: #666; --line: #ddd; --mark: #0072b2 }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16181b; --ink: #e6e6e6; --quiet: #a0a4a8; --line: #383c41; --mark: #56b4e9 }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif }
main { max-width: 68rem; margin: 0 auto; padding: 1.5rem 1rem 3rem }
h1 { margin: 0 0 1.2rem; font-size: 1.6rem; line-height: 1.25; overflow-wrap: anywhere }
dl { display: grid; gap: .9rem 1.5rem; margin: 0;
  grid-template-columns: repeat(auto-fill, minmax(10rem, 1fr)) }
dt { color: var(--quiet); font-size: .85rem }
dd { margin: 0; font-weight: 600; overflow-wrap: anywhere }
.long { grid-column: 1 / -1 }
section, figure { margin: 2.2rem 0 0 }
.wide { overflow-x: auto }
.wide:focus-visible { outline: 2px solid var(--mark); outline-offset: 2px }
table { border-collapse: collapse; font-size: .92rem }
caption, figcaption { padding-bottom: .5rem; text-align: left; font-weight: 600 }
th, td { padding: .3rem 1.4rem .3rem 0; border-bottom: 1px solid var(--line); text-align: left }
th { font-weight: 400 }
thead th { color: var(--quiet); font-size: .85rem; vertical-align: bottom }
.number { text-align: right; font-variant-numeric: tabular-nums }
img { display: block; max-width: max(100%, 40rem); padding: .5rem; border-radius: .3rem; background: #fff }
ul { margin: 2.2rem 0 0; padding-left: 1.2rem; color: var(--quiet) }
"""

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """Rows under a header; the first cell of a row names it.

    Text stands as it is, floats get two decimals, None a dash; a column without text is aligned to the right.

    Attributes:
        caption: what the table shows.
        header: a name for each column.
        rows: cells, one for each column.

    Raises:
        ValueError: a row has more or fewer cells than the header.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows, start=1):
            if len(row) != len(self.header):
                raise ValueError(
                    f"row {number} of the table '{self.caption}' has {len(row)} cells, but its header has "
                    f"{len(self.header)}; give each column a cell, empty where there is nothing to say"
                )


def write_page(
    out: Path,
    title: str,
    facts: Mapping[str, str],
    tables: Sequence[Table],
    pictures: Sequence[tuple[str, Path]],
    notes: Sequence[str],
) -> None:
    """Write a report that can be mailed as one file and read without a network.

    Args:
        out: the page.
        title: its heading.
        facts: name to value, shown first.
        tables: shown after the facts.
        pictures: (caption, file); the caption is also the text for those who cannot see the picture.
        notes: remarks, which stand before the tables.

    Raises:
        ValueError: a picture of a kind that a page cannot hold.
        OSError: a picture cannot be read, or ``out`` cannot be written (WriteError).
    """
    items = "".join(
        f"<div{' class=long' if len(value) > _LONG else ''}><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>\n"
        for name, value in facts.items()
    )
    remarks = "".join(f"<li>{escape(note)}</li>\n" for note in notes)
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<dl>\n{items}</dl>" if items else "",
        f"<ul>\n{remarks}</ul>" if remarks else "",
        *map(_table, tables),
        *(_picture(caption, path) for caption, path in pictures),
    ]
    body = "\n".join(part for part in parts if part)
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
    write_text(out, page)


def _table(table: Table) -> str:
    text = [any(isinstance(cell, str) for cell in column) for column in zip(*table.rows, strict=True)]
    align = ["" if t else ' class="number"' for t in text] or [""] * len(table.header)
    head = "".join(f'<th scope="col"{a}>{escape(name)}</th>' for name, a in zip(table.header, align, strict=True))
    rows = []
    for row in table.rows:
        first, *rest = zip(row, align, strict=True)
        cells = "".join(f"<td{a}>{_cell(cell)}</td>" for cell, a in rest)
        rows.append(f'<tr><th scope="row"{first[1]}>{_cell(first[0])}</th>{cells}</tr>\n')
    caption = escape(table.caption)
    return f"""<section class="wide" tabindex="0" role="region" aria-label="{caption}">
<table>
<caption>{caption}</caption>
<thead><tr>{head}</tr></thead>
<tbody>
{"".join(rows)}</tbody>
</table>
</section>"""


def _cell(cell: Cell) -> str:
    if cell is None:
        return "–"
    return escape(f"{cell:.2f}" if isinstance(cell, float) else str(cell))


def _picture(caption: str, path: Path) -> str:
    kind = _KINDS.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"a page cannot hold the picture '{path}'; it takes {', '.join(_KINDS)}")
    data = b64encode(path.read_bytes()).decode()
    text = escape(caption)
    return f"""<figure>
<figcaption>{text}</figcaption>
<div class="wide" tabindex="0" role="region" aria-label="{text}">
<img alt="{text}" src="data:{kind};base64,{data}">
</div>
</figure>"""
