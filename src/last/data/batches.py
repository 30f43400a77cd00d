"""Indices to batches on the device: sampling in time, augmentation, normalisation, streams.

Training, evaluation and prediction all take this path. Nothing here reads a file or works clip by clip.
Shapes: N batch, C coordinates, T sampled frames, V joints, M bodies, R rows (one a frame and body).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Generator, Tensor

from last.constants import constant
from last.data.augment import Augmentation, augment, hidden
from last.data.clip import Clip
from last.data.normalise import AFTER_AUGMENTATION, BEFORE_AUGMENTATION, check_steps
from last.data.rows import load_rows
from last.data.store import ClipStore, encode_confidence
from last.setting_values import ConfigError
from last.settings import DataConfig, ModelConfig, share_of_crop
from last.skeleton import Layout
from last.streams import KNOWN, STREAMS, Origin, ends, make


@dataclass(frozen=True)
class DeviceClips:
    """Clips as they lie on the device: ragged, each at its true length.

    Attributes:
        rows: joints, (R, V, C), float32 or float16; the rows of a clip are body-major.
        seen: how sure the data is of each joint, (R, V) uint8 as in the store; None where all were seen.
        offset: first row of each clip, (clips,).
        frames: true length of each clip, (clips,).
        bodies: bodies of each clip, (clips,).
        labels: class of each clip, (clips,).
        most_bodies: of any clip; kept as a number, since asking the device would stall it.
        fewest_bodies: of any clip, likewise.
    """

    rows: Tensor
    offset: Tensor
    frames: Tensor
    bodies: Tensor
    labels: Tensor
    most_bodies: int
    fewest_bodies: int
    seen: Tensor | None = None

    def __len__(self) -> int:
        return len(self.offset)

    @classmethod
    def from_store(cls, store: ClipStore, indices: np.ndarray, device: torch.device | str) -> "DeviceClips":
        """Copy the chosen clips of a store to the device, their joints in the store's own type.

        Raises:
            StoreError: the disk fails.
        """
        table = store.clips[indices]
        counts = table["frames"].astype(np.int64) * table["bodies"]

        def tensor(values: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64)).to(device)

        return cls(
            rows=load_rows(store.joints, table["offset"], counts, device),
            seen=None if store.confidence is None else load_rows(store.confidence, table["offset"], counts, device),
            offset=tensor(np.cumsum(counts) - counts),
            frames=tensor(table["frames"]),
            bodies=tensor(table["bodies"]),
            labels=tensor(table["label"]),
            most_bodies=int(table["bodies"].max()),
            fewest_bodies=int(table["bodies"].min()),
        )

    @classmethod
    def from_clips(cls, clips: Sequence[Clip], device: torch.device | str) -> "DeviceClips":
        """Put clips that are in memory on the device; their joints must be finite."""
        lengths = torch.tensor([clip.frames * clip.bodies for clip in clips])

        def joined(arrays: Sequence[np.ndarray]) -> Tensor:
            rows = np.concatenate([array.swapaxes(0, 1).reshape(-1, *array.shape[2:]) for array in arrays])
            return torch.from_numpy(np.ascontiguousarray(rows)).to(device)

        def codes(clip: Clip) -> np.ndarray:
            if clip.confidence is None:
                return np.full(clip.joints.shape[:3], 255, dtype=np.uint8)
            return encode_confidence(clip.confidence)

        all_seen = all(clip.confidence is None for clip in clips)
        return cls(
            rows=joined([clip.joints.astype(np.float32) for clip in clips]),
            seen=None if all_seen else joined([codes(clip) for clip in clips]),
            offset=(lengths.cumsum(0) - lengths).to(device),
            frames=torch.tensor([clip.frames for clip in clips]).to(device),
            bodies=torch.tensor([clip.bodies for clip in clips]).to(device),
            labels=torch.tensor([clip.label for clip in clips]).to(device),
            most_bodies=max(clip.bodies for clip in clips),
            fewest_bodies=min(clip.bodies for clip in clips),
        )

    def gather(self, index: Tensor, times: Tensor, bodies: int) -> tuple[Tensor, Tensor]:
        """Joints of the chosen clips at the chosen times, interpolated between frames.

        Args:
            index: clips, (N,).
            times: in frames of each clip, fractions allowed, (N, T).
            bodies: M; bodies beyond these are left out.

        Returns:
            Joints (N, C, T, V, M) with absent bodies zero, and the present bodies (N, M).
        """
        frames = self.frames[index, None, None]
        start, mask = self._starts(index, bodies)
        low = times.floor().long().unsqueeze(2)  # (N, T, 1)
        high = torch.minimum(low + 1, frames - 1)
        weight = (times.unsqueeze(2) - low)[..., None, None]
        x = torch.lerp(self._at(start + low), self._at(start + high), weight)  # (N, T, M, V, C)
        if bodies > 1:  # every clip has a first body
            x = x * mask[:, None, :, None, None]
        return x.permute(0, 4, 1, 3, 2).contiguous(), mask

    def gather_seen(self, index: Tensor, times: Tensor, bodies: int) -> Tensor:
        """How sure the data is of each joint in the frames nearest to the chosen times, (N, 1, T, V, M) float.

        0 where the joint or the body is missing, else 1 to 255; the arguments are those of :meth:`gather`.
        """
        start, mask = self._starts(index, bodies)
        rows = start + times.round().long().unsqueeze(2)
        if self.seen is None:
            codes = torch.full((*rows.shape, self.rows.shape[1]), 255.0, device=self.rows.device)
        else:
            codes = self.seen[rows].float()
        return (codes * mask[:, None, :, None]).permute(0, 1, 3, 2).unsqueeze(1).contiguous()

    def _at(self, rows: Tensor) -> Tensor:
        """Joints of the rows, (N, T, M), as float32, (N, T, M, V, C)."""
        # index_select copies whole rows on a CPU, where indexing by a tensor goes number by number.
        chosen = self.rows.index_select(0, rows.flatten())
        return chosen.view(*rows.shape, *self.rows.shape[1:]).float()

    def _starts(self, index: Tensor, bodies: int) -> tuple[Tensor, Tensor]:
        """First row of each body, (N, 1, M), that of the first body for an absent one; and who is present, (N, M)."""
        body = torch.arange(bodies, device=index.device)
        mask = body < self.bodies[index][:, None]
        body = (body * mask)[:, None, :]
        return self.offset[index, None, None] + body * self.frames[index, None, None], mask


def sample_times(
    frames: Tensor, count: int, crop: tuple[float, float], jitter: bool, generator: Generator, warp: float = 0.0
) -> Tensor:
    """Random times at which clips are sampled, within their true lengths, (N, T).

    Args:
        frames: true lengths, (N,).
        count: samples a clip, T.
        crop: shortest and longest fraction that is kept; where it lies is drawn too.
        jitter: one draw in each of T equal segments, instead of T even steps from end to end.
        generator: on the device of ``frames``.
        warp: largest relative change of speed, below 1.
    """

    def draw(size: int) -> Tensor:
        return torch.rand(len(frames), size, generator=generator, device=frames.device)

    last = (frames - 1).float().unsqueeze(1)
    length = last * (crop[0] + (crop[1] - crop[0]) * draw(1))
    start = (last - length) * draw(1)
    if jitter:
        steps = (torch.arange(count, device=frames.device) + draw(count)) / count
    else:
        steps = torch.linspace(0, 1, count, device=frames.device)
    if warp:
        # Two sines that vanish at both ends; their slopes add up to the warp at most, so that time never runs back.
        waves = math.pi * constant((1.0, 2.0), torch.float32, frames.device)
        strength = warp * (draw(2) - 0.5)
        steps = steps + (strength[:, :, None] * torch.sin(waves[:, None] * steps[..., None, :]) / waves[:, None]).sum(1)
    return start + steps * length


@dataclass(frozen=True)
class Pipeline:
    """From device clips to the input of a network; the same in training, evaluation and prediction.

    Attributes:
        layout: the skeleton.
        frames: samples a clip, T.
        max_bodies: bodies that are kept, most moving first as `last data prepare` ranks them.
        pad_bodies: make so many bodies of every clip, the absent ones zero, for networks that were trained with them;
            else M is at most the bodies of any clip at hand, so that a set of single persons never pays for two.
        normalise: steps of :mod:`last.data.normalise`.
        origin: of the joint stream; ``stored`` also leaves turns and scales about the store's own origin.
        sampling: ``resample`` spreads T samples over a clip, ``pad`` takes its first T frames as they are, and zeros
            after its end.
        test_span: share of a clip, from its middle, that is scored; None is the whole, or 0.9 in each of several crops.
        streams: which streams to make.
        missing: ``mask`` gives the network zeros wherever a missing joint takes part, ``interpolate`` the place that
            :mod:`last.data.clean` put it.
        confidence: give each stream a further channel, how sure the data is of the joints that take part: their mean,
            0 for a missing one.
        augmentation: of training batches.

    Raises:
        ConfigError: a step of normalisation does not exist or suit the layout, or a stream does not exist.
    """

    layout: Layout
    frames: int = 64
    max_bodies: int = 2
    pad_bodies: bool = False
    normalise: tuple[str, ...] = ()
    origin: Origin = "first_frame"
    sampling: Literal["resample", "pad"] = "resample"
    test_span: float | None = None
    streams: tuple[str, ...] = STREAMS
    missing: Literal["interpolate", "mask"] = "interpolate"
    confidence: bool = False
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        check_steps(self.normalise, self.layout)
        if not self.streams or not set(self.streams) <= set(KNOWN):
            raise ConfigError(f"model.streams is {list(self.streams)}, expected one or more of {', '.join(KNOWN)}")

    @classmethod
    def from_config(
        cls,
        data: DataConfig,
        model: ModelConfig,
        layout: Layout,
        augmentation: Augmentation | None = None,
    ) -> "Pipeline":
        """The pipeline of a configuration."""
        return cls(
            layout=layout,
            frames=data.frames,
            max_bodies=data.max_bodies,
            pad_bodies=model.bodies == "padded",
            normalise=data.normalise,
            origin=data.origin,
            sampling=data.sampling,
            test_span=data.test_span,
            streams=model.streams,
            missing=data.missing,
            confidence=model.confidence,
            augmentation=augmentation or Augmentation(),
        )

    def train(
        self, clips: DeviceClips, index: Tensor, generator: Generator, share: Tensor | None = None
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Streams and body mask of a training batch, with its random crops and changes; no mask where all are present.

        Args:
            clips: on the device.
            index: of the batch, (N,).
            generator: on the device.
            share: how much of the clip before it in the batch is mixed into each, (N,); None mixes none.
        """
        settings, frames = self.augmentation, clips.frames[index]
        if self.sampling == "pad":
            times = self._first_frames(frames)
        else:
            times = sample_times(frames, self.frames, settings.crop, settings.jitter, generator, settings.warp)
        return self._streams(clips, index, times, generator, share)

    def evaluate(
        self, clips: DeviceClips, index: Tensor, crop: int = 0, crops: int = 1
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Streams and body mask of whole clips, or of test-time crop number ``crop`` of ``crops``.

        One crop lies in the middle of the clip, several are spread evenly from its beginning to its end.
        """
        if self.sampling == "pad":
            return self._streams(clips, index, self._first_frames(clips.frames[index]), None)
        last = (clips.frames[index] - 1).float().unsqueeze(1)
        length = last * share_of_crop(self.test_span, crops)
        start = (last - length) * (crop / (crops - 1) if crops > 1 else 0.5)
        times = start + torch.linspace(0, 1, self.frames, device=last.device) * length
        return self._streams(clips, index, times, None)

    def _first_frames(self, frames: Tensor) -> Tensor:
        """Times of the first T frames of clips with so many frames, (N, T); those beyond a clip's end lie outside."""
        return torch.arange(self.frames, device=frames.device).float().expand(len(frames), -1)

    def _streams(
        self,
        clips: DeviceClips,
        index: Tensor,
        times: Tensor,
        generator: Generator | None,
        share: Tensor | None = None,
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Everything between sampling times and the network; a generator means augmentation."""
        last = clips.frames[index, None] - 1.0
        within = (times <= last)[:, None, :, None, None]
        times = torch.minimum(times, last)
        bodies = self.max_bodies if self.pad_bodies else min(self.max_bodies, clips.most_bodies)
        x, mask = clips.gather(index, times, bodies)
        asks_seen = self.confidence or self.missing == "mask"
        seen = clips.gather_seen(index, times, bodies) if asks_seen else None
        # Every clip has its first body, so that of one body there is nothing to blank.
        present = mask[:, None, None, None, :] if bodies > 1 else None
        if self.origin != "stored":
            # Turns and scales are about the first body's root, not about the sensor.
            x = x - x[:, :, :1, self.layout.root, None, :1]
            x = x if present is None else x * present
        for step in self.normalise:
            if step in BEFORE_AUGMENTATION:
                x = BEFORE_AUGMENTATION[step](x, mask, self.layout)
        if generator is not None:
            x, seen = augment(x, seen, self.layout, self.augmentation, generator)
            x = x if present is None else x * present
            if share is not None:
                # A body that one of the two clips lacks is not mixed.
                both = ((mask & mask.roll(1, 0)) * share[:, None])[:, None, None, None, :]
                x = torch.lerp(x, x.roll(1, 0), both)
                if seen is not None:  # no surer of a joint than of the less sure of the two
                    seen = torch.where(both > 0, torch.minimum(seen, seen.roll(1, 0)), seen)
        for step in self.normalise:
            if step in AFTER_AUGMENTATION:
                x = AFTER_AUGMENTATION[step](x, mask, self.layout)
        if self.sampling == "pad":  # once the last frame, which stood there, cannot widen any range
            x = x * within
            seen = None if seen is None else seen * within
        made = make(x, self.layout, self.streams, self.origin, mask)
        if generator is not None:
            covered = hidden(x.shape, self.layout, self.augmentation, generator, x.device)
            if covered is not None:
                made = {name: self._without(stream, name, covered) for name, stream in made.items()}
                seen = None if seen is None else seen.masked_fill(covered, 0)
        if self.sampling == "pad":
            made = {name: stream * within for name, stream in made.items()}
        # Picking rows by a mask makes the host wait for the device; where all are present there is nothing to pick.
        absent = bodies > clips.fewest_bodies
        return (made if seen is None else self._with_seen(made, seen)), mask if absent else None

    def _without(self, stream: Tensor, name: str, covered: Tensor) -> Tensor:
        """A stream, zero wherever a covered joint, (N, 1, T, V, 1), takes part."""
        one, other = ends(~covered.expand(-1, -1, *stream.shape[2:]), self.layout, name)
        return stream * (one & other)

    def _with_seen(self, made: dict[str, Tensor], seen: Tensor) -> dict[str, Tensor]:
        """The streams, zero where they rest on a guess, or with a channel that says how sure they are."""
        result = {}
        for name, stream in made.items():
            one, other = ends(seen, self.layout, name)
            if self.missing == "mask":
                stream = stream * ((one > 0) & (other > 0))
            if self.confidence:
                sure = ((one - 1).clamp(min=0) + (other - 1).clamp(min=0)) / (2 * 254)
                stream = torch.cat([stream, sure], dim=1)
            result[name] = stream
        return result
