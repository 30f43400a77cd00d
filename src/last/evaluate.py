"""Scores of a network over a set of clips, and what they are worth. Shapes: N clips, K classes, B bins."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from last.data.batches import DeviceClips, Pipeline
from last.data.feed import Feed, Resident
from last.data.formats.arrays import load_npz
from last.data.formats.source import Source
from last.data.store import ClipStore
from last.files import write_atomically

BATCH = 64  # clips that are scored at once
_BINS = 15  # of Guo et al. and of most who report calibration since


@torch.inference_mode()
def predict(
    model: nn.Module,
    pipeline: Pipeline,
    clips: DeviceClips | Feed,
    batch_size: int = BATCH,
    crops: int = 1,
    on_clips: Callable[[int], None] = lambda done: None,
) -> Tensor:
    """Probabilities of each class, (N, K), on the CPU; the mean over test-time crops.

    Args:
        model: takes streams and a body mask.
        pipeline: the one that the model was trained with.
        clips: on the model's device, or on their way there.
        batch_size: clips at once.
        crops: 1 takes whole clips.
        on_clips: given the number of clips done.
    """
    feed = Resident(clips) if isinstance(clips, DeviceClips) else clips
    training, done, parts = model.training, 0, []
    model.eval()
    for there, places in feed.batches(torch.arange(len(feed)), batch_size):
        scores = [model(*pipeline.evaluate(there, places, crop, crops)).float().softmax(1) for crop in range(crops)]
        parts.append(torch.stack(scores).mean(0))
        done += len(places)
        on_clips(done)
    model.train(training)
    return torch.cat(parts).cpu()


@dataclass(frozen=True)
class Calibration:
    """Confidence in the best class against how often it is right, over bins of equal width from 0 to 1.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    Attributes:
        counts: clips in each bin, (B,).
        confidence: their mean confidence in percent, (B,); NaN where a bin is empty.
        accuracy: the share of them that is recognised in percent, (B,); NaN where a bin is empty.
    """

    counts: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def expected_error(self) -> float:
        """Mean over the clips of the distance between confidence and accuracy of their bin, in points (ECE)."""
        return float(np.nansum(self.counts * self._gaps) / self.counts.sum())

    @property
    def maximum_error(self) -> float:
        """The largest such distance, in points (MCE); a bin of a single clip can decide it."""
        return float(np.nanmax(self._gaps))

    @property
    def _gaps(self) -> np.ndarray:
        return np.abs(self.accuracy - self.confidence)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON: both errors, and the bins that hold clips."""
        columns = zip(self.counts.tolist(), self.confidence.tolist(), self.accuracy.tolist(), strict=True)
        return {
            "expected_error": self.expected_error,
            "maximum_error": self.maximum_error,
            "bins": [
                {"clips": count, "confidence": round(confidence, 2), "accuracy": round(accuracy, 2)}
                for count, confidence, accuracy in columns
                if count
            ],
        }


def calibrate(probabilities: Tensor, labels: Tensor, bins: int = _BINS) -> Calibration:
    """Sort clips by the confidence in their best class: probabilities (N, K), true classes (N,), N > 0."""
    confidence, best = (values.numpy() for values in probabilities.double().max(dim=1))
    place = np.ceil(bins * confidence).astype(int).clip(1, bins) - 1  # a bin holds its upper edge, as in the paper
    counts, right, sure = (
        np.bincount(place, weights, minlength=bins) for weights in (None, best == labels.numpy(), confidence)
    )
    return Calibration(counts, _percent(sure, counts), _percent(right, counts))


@dataclass(frozen=True)
class Metrics:
    """How well probabilities fit the labels; all in percent but the loss and the counts.

    Attributes:
        clips: N.
        loss: mean cross-entropy.
        top1: share of clips whose best class is right.
        top5: share of clips whose five best classes hold the right one.
        mean_class_accuracy: mean of the recalls of the classes that occur.
        confusion: counts, (K, K), true classes in rows.
        calibration: how far the confidence in the best class can be believed.
    """

    clips: int
    loss: float
    top1: float
    top5: float
    mean_class_accuracy: float
    confusion: np.ndarray
    calibration: Calibration

    @property
    def shown(self) -> dict[str, float]:
        """Top-1, top-5 and mean class accuracy by their names in tables; no top-5 where five classes are all."""
        scores = {"top-1": self.top1, "top-5": self.top5, "mean class": self.mean_class_accuracy}
        return {name: score for name, score in scores.items() if name != "top-5" or len(self.confusion) > 5}

    @property
    def ece(self) -> float:
        """Expected calibration error, in points."""
        return self.calibration.expected_error

    @property
    def recall(self) -> np.ndarray:
        """Share of each class's clips that are recognised, in percent, (K,); NaN where a class has none."""
        return _percent(self.confusion.diagonal(), self.confusion.sum(1))

    @property
    def precision(self) -> np.ndarray:
        """Share of the clips taken for a class that are of it, in percent, (K,); NaN where there are none."""
        return _percent(self.confusion.diagonal(), self.confusion.sum(0))

    def to_dict(self, classes: Sequence[str]) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        per_class = [
            {
                "class": name,
                "clips": int(self.confusion[k].sum()),
                "recall": None if np.isnan(self.recall[k]) else round(float(self.recall[k]), 2),
                "precision": None if np.isnan(self.precision[k]) else round(float(self.precision[k]), 2),
            }
            for k, name in enumerate(classes)
        ]
        return {
            "clips": self.clips,
            "loss": self.loss,
            "top1": self.top1,
            "top5": self.top5,
            "mean_class_accuracy": self.mean_class_accuracy,
            "ece": self.ece,
            "calibration": self.calibration.to_dict(),
            "per_class": per_class,
            "confusion": self.confusion.tolist(),
        }


def measure(probabilities: Tensor, labels: Tensor) -> Metrics:
    """Compare probabilities, (N, K), with true classes, (N,).

    Raises:
        ValueError: there are no clips.
    """
    count, classes = probabilities.shape
    if count == 0:
        raise ValueError("there are no clips to evaluate; look at the protocol's test part with 'last data list'")
    labels = labels.cpu()
    best = probabilities.argmax(1)  # of equals the first, as everywhere; topk promises no order
    hits = probabilities.topk(min(5, classes), dim=1).indices == labels[:, None]
    confusion = torch.bincount(labels * classes + best, minlength=classes**2).view(classes, classes).numpy()
    recall = _percent(confusion.diagonal(), confusion.sum(1))
    return Metrics(
        clips=count,
        loss=float(F.nll_loss(probabilities.clamp(min=1e-12).log(), labels)),
        top1=100 * float((best == labels).double().mean()),
        top5=100 * float(hits.any(1).double().mean()),
        mean_class_accuracy=float(np.nanmean(recall)),
        confusion=confusion,
        calibration=calibrate(probabilities, labels),
    )


@dataclass(frozen=True, eq=False)
class Scores:
    """What a network gives each clip of a test part, for those who fuse or compare.

    Attributes:
        names: of the clips, (N,) bytes.
        labels: true classes, (N,) int64.
        probabilities: (N, K) float32.
        classes: name of each label.
    """

    names: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    classes: tuple[str, ...]

    @classmethod
    def open(cls, path: Path) -> "Scores":
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: the file is missing, damaged, or its arrays do not fit each other.
        """
        advice = "make it again with 'last evaluate' or 'last fuse'"
        if not path.is_file():
            raise ValueError(f"there are no scores at {path}; {advice}")
        try:
            content = load_npz(Source(path), ("names", "labels", "probabilities", "classes"))
        except ValueError as error:
            raise ValueError(f"{error}; {advice}") from error
        names, labels, probabilities, classes = (np.array(array) for array in content.values())
        shapes = names.shape, labels.shape, probabilities.shape, classes.shape
        kinds = "".join(array.dtype.kind for array in (names, labels, probabilities, classes))
        clips, known = len(names) if names.ndim else 0, len(classes) if classes.ndim else 0
        if kinds != "SifU" or shapes != ((clips,), (clips,), (clips, known), (known,)) or not clips * known:
            raise ValueError(
                f"{path} holds names, labels, probabilities and classes of the shapes {shapes} and kinds '{kinds}', "
                f"expected (N,), (N,), (N, K), (K,) and 'SifU'; {advice}"
            )
        in_range = np.isfinite(probabilities).all() and probabilities.min() >= 0 and probabilities.max() <= 1.001
        if not in_range or labels.min() < 0 or labels.max() >= known:
            raise ValueError(f"{path} holds labels beyond its {known} classes, or what is no probability; {advice}")
        return cls(names, labels.astype(np.int64), probabilities.astype(np.float32), tuple(classes.tolist()))

    def save(self, path: Path) -> None:
        """Write an ``.npz``, whole or not at all.

        Raises:
            WriteError: it cannot be written.
        """

        def write(partial: Path) -> None:
            with partial.open("wb") as file:
                np.savez(
                    file,
                    names=self.names,
                    labels=self.labels,
                    probabilities=self.probabilities,
                    classes=np.array(self.classes),
                )

        write_atomically(path, write)

    def measure(self) -> Metrics:
        """How well they fit the labels."""
        return measure(torch.from_numpy(self.probabilities), torch.from_numpy(self.labels))

    @property
    def fingerprint(self) -> str:
        """Tells scores of the same clips from others; see :func:`fingerprint_of`."""
        return fingerprint_of(self.names, self.labels)

    @property
    def correct(self) -> np.ndarray:
        """Which clips are recognised, (N,) bool."""
        return self.probabilities.argmax(1) == self.labels


def fingerprint_of(names: np.ndarray, labels: np.ndarray) -> str:
    """A hash of the names, (N,) bytes, and the labels, (N,), of clips in their order."""
    content = b"\0".join(names.tolist()) + labels.astype("<i8").tobytes()
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def fingerprint_of_part(store: ClipStore, clips: np.ndarray) -> str:
    """The fingerprint of some clips of a store, (N,), such as those that a protocol tests."""
    table = store.clips[clips]
    return fingerprint_of(table["name"], table["label"])


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(100.0 * part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
