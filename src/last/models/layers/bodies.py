"""Bodies folded into the batch, and back. Shapes: S streams, N batch, C channels, T frames, V joints, M bodies."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

Bodies = Literal["mean", "first", "padded"]


def fold_bodies(
    streams: Mapping[str, Tensor], mask: Tensor | None, names: Sequence[str], bodies: Bodies
) -> tuple[Tensor, Tensor | None]:
    """Give each present body a row of its own, so that absent ones reach neither BatchNorm nor the result.

    Args:
        streams: stream name to (N, C, T, V, M).
        mask: which bodies are present, (N, M) bool; None means all.
        names: the streams that the network takes, in its order.
        bodies: ``mean`` keeps all present bodies, ``first`` the first alone, ``padded`` absent ones too, as zeros.

    Returns:
        (B, S, C, T, V) with one row a body, and the clip of each row, (B,); None where rows are clips.

    Raises:
        ValueError: a stream is missing or has another shape than its fellows.
    """
    missing = [name for name in names if name not in streams]
    if missing:
        raise ValueError(f"the network needs the stream(s) {', '.join(missing)}; it was given {', '.join(streams)}")
    x = torch.stack([streams[name] for name in names], dim=1)
    if x.dim() != 6:
        raise ValueError(f"streams have the shape {tuple(streams[names[0]].shape)}, expected (N, C, T, V, M)")
    count, body_count = x.shape[0], x.shape[-1]
    if bodies == "first" or body_count == 1:
        return x[..., 0], None
    x = x.movedim(-1, 1)
    owner = torch.arange(count, device=x.device)[:, None].expand(count, body_count)
    if mask is None:
        return x.flatten(0, 1), owner.flatten()
    if bodies == "padded":
        return (x * mask[..., None, None, None, None]).flatten(0, 1), owner.flatten()
    return x[mask], owner[mask]


def mean_over_bodies(rows: Tensor, owner: Tensor | None, count: int) -> Tensor:
    """Average the rows of each clip: (B, F) -> (N, F).

    Args:
        rows: one row a body, (B, F).
        owner: clip of each row, (B,), as :func:`fold_bodies` gives it.
        count: number of clips, N.
    """
    if owner is None:
        return rows
    total = rows.new_zeros(count, rows.shape[1]).index_add(0, owner, rows)
    number = rows.new_zeros(count).index_add(0, owner, rows.new_ones(len(rows)))
    return total / number.clamp(min=1).unsqueeze(1)
