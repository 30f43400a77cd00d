"""`last models`: the networks, and the trained ones that come with the package."""

import sys
from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from last.cli_data import Positive, network_name, reporter
from last.cli_look import bodies_in_words, plain_table, print_json

Flag = Annotated[bool, Parameter(negative=())]


def models(
    names: list[str] | None = None,
    /,
    *,
    classes: Positive = 60,
    layout: str = "ntu",
    frames: Positive = 64,
    bodies: Positive = 1,
    table: Flag = False,
    pretrained: Flag = False,
    json: Flag = False,
) -> None:
    """List the networks: name, parameters, multiply-accumulates (MACs) of one clip.

    Args:
        names: which; all where not given.
        classes: size of the output.
        layout: the skeleton.
        frames: of the clip.
        bodies: in the clip.
        table: print all counts by all conventions, in Markdown.
        pretrained: list the trained ones that come with the package instead, each with classes and layout of its own.
        json: print in JSON.
    """
    from last.models import list_models
    from last.models.cost import costs, markdown

    chosen = [network_name(name) for name in names or list_models()]
    if pretrained:
        _list_pretrained(chosen, json)
        return
    with reporter.bar("counting", len(chosen)) as advance:
        rows = costs(chosen, classes, layout, frames, bodies, advance)
    if json:
        print_json([row.to_dict() for row in rows])
        return
    if table:
        sys.stdout.write(markdown(rows))
        return
    reporter.answer(f"{classes} classes, layout {layout}, {frames} frames, {bodies_in_words(bodies)}")
    shown = plain_table("model", "alias", "parameters", "MACs", "a second of input", words=("model", "alias"))
    for row in rows:
        macs = (f"{number / 1e6:,.1f} M" for number in (row.macs.all, row.macs.per_second))
        shown.add_row(row.model, row.alias, f"{row.parameters:,}", *macs)
    reporter.answer(shown)


def _list_pretrained(networks: list[str], json: bool) -> None:
    from last.bench.entries import spread
    from last.pretrained import list_pretrained

    found = [known for known in list_pretrained() if known.model in networks]
    if json:
        print_json([{"name": known.name, "file": str(known.weights), **asdict(known)} for known in found])
        return
    words = ("name", "data set", "protocol")
    shown = plain_table(*words, "parameters", "top-1", "top-1 of all seeds", "seeds", "KB", words=words)
    for known in found:
        scores = list(known.top1_by_seed.values())
        of_all = spread(scores) + (f" ({len(known.tested_by)} folds)" if len(known.tested_by) > 1 else "")
        size = f"{known.weights.stat().st_size / 1e3:.0f}"
        figures = (f"{known.parameters:,}", f"{known.top1:.1f}", of_all, str(len(scores)), size)
        shown.add_row(known.name, known.dataset, known.protocol, *figures)
    reporter.answer(shown)
