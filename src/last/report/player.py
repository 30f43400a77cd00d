"""A page that plays one clip in any browser, alone and without a network."""

import json
from importlib.resources import files

import numpy as np

from last.report.poses import heads, sides
from last.skeleton import Layout

# Coordinates are written as whole numbers up to this one: finer than a screen, and half the size of decimals.
_UNIT = 2000


def player_page(name: str, points: np.ndarray, layout: Layout, frame_rate: float) -> str:
    """The HTML of a player with play, scrubber and speed, which turns what has three dimensions.

    Args:
        name: title of the page.
        points: joints as seen, (frames, bodies, joints, 3); NaN where absent.
        layout: their skeleton.
        frame_rate: frames a second.
    """
    low, high = (bound(points.reshape(-1, 3), axis=0) for bound in (np.nanmin, np.nanmax))
    extent = (high - low) / 2
    scale = extent.max() or 1.0
    points = (points - (low + high) / 2) / scale
    whole = np.rint(points * _UNIT).ravel()
    clip = {
        "name": name,
        "frameRate": frame_rate,
        "turns": layout.dimensions == 3,
        "size": points.shape[:3],
        "extent": (extent / scale).round(4).tolist(),
        "radius": round(float(np.nanmax(np.hypot(points[..., 0], points[..., 2]))), 4),
        "bones": layout.bones,
        "sides": sides(layout).tolist(),
        "heads": heads(layout),
        "unit": _UNIT,
        "points": [None if np.isnan(value) else int(value) for value in whole],
    }
    # A name with "</script>" in it must not end the script that holds it.
    content = json.dumps(clip, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return files("last.report").joinpath("player.html").read_text(encoding="utf-8").replace("{{clip}}", content)
