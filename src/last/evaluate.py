"""Scores of a network over a set of clips, and what they are worth. Shapes: N clips, K classes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from last.data.batches import DeviceClips, Pipeline


@torch.inference_mode()
def predict(
    model: nn.Module,
    pipeline: Pipeline,
    clips: DeviceClips,
    batch_size: int = 64,
    crops: int = 1,
    on_clips: Callable[[int], None] = lambda done: None,
) -> Tensor:
    """Probabilities of each class, (N, K), on the CPU; the mean over test-time crops.

    Args:
        model: takes streams and a body mask.
        pipeline: the one that the model was trained with.
        clips: on the model's device.
        batch_size: clips at once.
        crops: 1 takes whole clips.
        on_clips: given the number of clips done.
    """
    training = model.training
    model.eval()
    parts = []
    for index in torch.arange(len(clips), device=clips.rows.device).split(batch_size):
        scores = [model(*pipeline.evaluate(clips, index, crop, crops)).float().softmax(1) for crop in range(crops)]
        parts.append(torch.stack(scores).mean(0).cpu())
        on_clips(int(index[-1]) + 1)
    model.train(training)
    return torch.cat(parts)


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
    """

    clips: int
    loss: float
    top1: float
    top5: float
    mean_class_accuracy: float
    confusion: np.ndarray

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
    ranked = probabilities.topk(min(5, classes), dim=1).indices
    hits = ranked == labels[:, None]
    confusion = torch.bincount(labels * classes + ranked[:, 0], minlength=classes**2).view(classes, classes).numpy()
    recall = _percent(confusion.diagonal(), confusion.sum(1))
    return Metrics(
        clips=count,
        loss=float(F.nll_loss(probabilities.clamp(min=1e-12).log(), labels)),
        top1=100 * float(hits[:, 0].double().mean()),
        top5=100 * float(hits.any(1).double().mean()),
        mean_class_accuracy=float(np.nanmean(recall)),
        confusion=confusion,
    )


def _percent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(100.0 * part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
