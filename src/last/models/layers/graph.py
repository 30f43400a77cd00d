"""The graph as directed edges. Shapes: K graph subsets, V joints."""

import torch
from torch import Tensor

from last.skeleton import Layout


def directed_partition(layout: Layout) -> Tensor:
    """Each joint itself, the bones towards the centre and those away from it, (K, V, V).

    Entry [0, v, v] is 1; [1, v, w] is that of the bone between w and v, the nearer of the two to the centre, [2, v, w]
    that of the bone between w and v, the farther. Each subset is normalised by itself: a column adds up to 1, or to 0
    where no bone belongs to it. From 2s-AGCN (Shi et al., CVPR 2019).
    """
    count = len(layout.joints)
    hops = layout.hops_from(layout.centre)
    inward = torch.zeros(count, count)
    for joint, parent in layout.bones:
        near, far = sorted((joint, parent), key=hops.__getitem__)
        inward[near, far] = 1
    outward = inward.t() / inward.sum(1).clamp(min=1)
    return torch.stack([torch.eye(count), inward, outward])
