"""The scoreboard as pictures: what each network is worth against what it costs."""

from pathlib import Path
from statistics import mean, stdev

from last.bench.scoreboard import Board, macs_of
from last.models import families, family_of
from last.report.pareto import ParetoPoint, draw_pareto
from last.settings import is_of_last


def draw_board(board: Board, folder: Path) -> list[Path]:
    """Draw top-1 against parameters and against MACs, each network by the recipe that counts.

    Args:
        board: of a data set.
        folder: of the pictures, ``pareto_<dataset>_<protocol>_parameters.png`` and ``_macs.png``.

    Returns:
        The pictures; none where fewer than two networks are measured, which show nothing.

    Raises:
        WriteError: a picture cannot be written.
    """
    counting = [entry for model in board.entries if (entry := board.counting(model)) and entry.complete]
    drawn = []
    for cost, label in (("parameters", "parameters"), ("macs", "MACs of a clip")):
        points = []
        for entry in counting:
            value = entry.first["parameters"] if cost == "parameters" else macs_of(entry)
            if value is not None:
                scores, family = entry.scores(), family_of(entry.model)
                deviation = stdev(scores) if len(scores) > 1 else None
                is_peer = not is_of_last(entry.model)
                points.append(ParetoPoint(entry.model, value, mean(scores), deviation, family, is_peer))
        if len(points) > 1:
            drawn.append(folder / f"pareto_{board.dataset}_{board.protocol}_{cost}.png")
            draw_pareto(points, f"{label} ({board.dataset}, {board.protocol})", drawn[-1], families())
    return drawn
