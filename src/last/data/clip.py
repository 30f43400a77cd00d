"""One clip of one or more moving bodies. Shapes: T frames, M bodies, V joints, C coordinates."""

import hashlib
from dataclasses import dataclass

import numpy as np

UNKNOWN = -1


class FormatError(ValueError):
    """A file that is not what its format promises; the message names file and place."""


@dataclass(frozen=True)
class Clip:
    """Joints of all bodies in a clip, and what is known of it.

    Attributes:
        joints: (T, M, V, C) float32 at the clip's true length; NaN where a body or a joint is absent.
        name: unique in its data set, usually the file's stem.
        layout: name of the skeleton layout.
        label: class index from 0, or ``UNKNOWN``.
        subject: who performs, as the data set numbers them, or ``UNKNOWN``; for two persons the first.
        camera: camera or view, or ``UNKNOWN``.
        setup: camera setup (height and distance), or ``UNKNOWN``.
        replication: which repetition of the same action, or ``UNKNOWN``.
        confidence: (T, M, V) float32 from 0 to 1, NaN where the joint was missing and its place is a guess; None where
            the file gives none and no joint was missing.
        parts: what the data's own lists say of it, as in ``("xsub/train", "xview/test")``; a list without a name of
            its own is called ``given``.
    """

    joints: np.ndarray
    name: str
    layout: str
    label: int = UNKNOWN
    subject: int = UNKNOWN
    camera: int = UNKNOWN
    setup: int = UNKNOWN
    replication: int = UNKNOWN
    confidence: np.ndarray | None = None
    parts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.joints.ndim != 4 or 0 in self.joints.shape:
            raise FormatError(
                f"clip '{self.name}' has joints of the shape {self.joints.shape}, expected (frames, bodies, joints, "
                "coordinates), none of them zero"
            )
        if self.confidence is not None and self.confidence.shape != self.joints.shape[:3]:
            raise FormatError(
                f"clip '{self.name}' has confidences of the shape {self.confidence.shape}, expected one for each "
                f"joint, {self.joints.shape[:3]}"
            )

    def digest(self) -> bytes:
        """A hash of the joints alone, by which copies under other names are found."""
        return hashlib.blake2b(np.ascontiguousarray(self.joints).data, digest_size=16).digest()

    @property
    def frames(self) -> int:
        """True length, T."""
        return self.joints.shape[0]

    @property
    def bodies(self) -> int:
        """Number of bodies, M."""
        return self.joints.shape[1]
