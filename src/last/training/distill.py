"""What a student learns from frozen teachers, beside its labels.

Shapes: N batch, K classes, F features before the classifier, those of all teachers side by side.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from last.data.batches import DeviceClips, Pipeline
from last.evaluate import BATCH

# Of the labels in the loss, as the original has it; all other students take a half.
LABEL_WEIGHTS = {"last_e_nano": 0.7, "last_e_small": 0.6}


def soften(scores: Sequence[Tensor], temperature: float) -> Tensor:
    """Mean over teachers of softmax(scores / temperature), (N, K).

    Of all distributions it is the one whose divergence has the mean gradient of the teachers' own divergences, so that
    every teacher has the same say. A mean of scores would listen most to the one with the largest.

    Args:
        scores: of each teacher, before softmax, (N, K).
        temperature: tau.
    """
    return torch.stack([(answer.float() / temperature).softmax(1) for answer in scores]).mean(0)


def divergence(scores: Tensor, probabilities: Tensor, temperature: float) -> Tensor:
    """tau^2 KL(probabilities || softmax(scores / tau)) of each clip, (N,).

    Hinton et al., "Distilling the Knowledge in a Neural Network", 2015: tau^2 keeps the size of the gradient about the
    same at any temperature.

    Args:
        scores: the student's, before softmax, (N, K).
        probabilities: softened ones of the teachers, (N, K).
        temperature: tau.
    """
    softened = (scores.float() / temperature).log_softmax(1)
    return temperature**2 * F.kl_div(softened, probabilities, reduction="none").sum(1)


class Distillation(nn.Module):
    """Frozen teachers, and a student's loss on them.

    With weight a of the labels: (1 - a) tau^2 KL(teachers || student), and where asked for the squared distance of the
    student's features, through a linear map, to the teachers' (Romero et al., "FitNets", ICLR 2015, there of feature
    maps within the network). The map is all that is learned here; a student is used without it.

    Args:
        student: on its device.
        teachers: one or more, on the same device; they are frozen and stay in evaluation mode.
        label_weight: a, from 0 to 1.
        temperature: tau.
        feature_weight: of the distance of features; 0 leaves it out.

    Attributes:
        teachers: as given.
        remembered: what the teachers say of all clips, (clips, K + F); None where they are asked at each step.
    """

    def __init__(
        self,
        student: nn.Module,
        teachers: Sequence[nn.Module],
        label_weight: float,
        temperature: float = 4.0,
        feature_weight: float = 0.0,
    ):
        super().__init__()
        self.teachers = tuple(teacher.requires_grad_(False).eval() for teacher in teachers)  # a tuple trains nothing
        self.label_weight = label_weight
        self.temperature = temperature
        self.feature_weight = feature_weight
        self.remembered: Tensor | None = None
        self.map: nn.Linear | None = None
        if feature_weight:
            width = sum(classifiers(teacher)[0].in_features for teacher in self.teachers)
            own = classifiers(student)[0]
            self.map = nn.Linear(own.in_features, width, device=own.weight.device)

    @property
    def asked(self) -> tuple[nn.Module, ...]:
        """The teachers that each step asks."""
        return self.teachers if self.remembered is None else ()

    def forward(
        self, student: nn.Module, streams: Mapping[str, Tensor], mask: Tensor | None, places: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The student's scores, (N, K), and its loss on the teachers, summed over the clips, ().

        Args:
            student: asked here, since its features are no part of its answer.
            streams: those of student and teachers.
            mask: present bodies, (N, M); None where all are.
            places: of the clips among those that are remembered, (N,).
        """
        said = self._ask(streams, mask) if self.remembered is None else self.remembered.index_select(0, places)
        scores, features = self._answer(student, streams, mask)
        probabilities, wanted = said.tensor_split([scores.shape[1]], dim=1)
        loss = (1 - self.label_weight) * divergence(scores, probabilities, self.temperature).sum()
        if self.map is not None:
            distance = (self.map(features).float() - wanted).square().mean(1).sum()
            loss = loss + self.feature_weight * distance
        return scores, loss

    def remember(self, pipeline: Pipeline, clips: DeviceClips) -> None:
        """Ask the teachers once, for recipes that show each clip always the same.

        Args:
            pipeline: of the training, without augmentation.
            clips: all of them.
        """
        places = torch.arange(len(clips), device=clips.labels.device)
        generator = Generator(places.device)  # drawn from and not used
        parts = [self._ask(*pipeline.train(clips, part, generator)) for part in places.split(BATCH)]
        self.remembered = torch.cat(parts)

    @torch.no_grad()
    def _ask(self, streams: Mapping[str, Tensor], mask: Tensor | None) -> Tensor:
        """Softened probabilities and features of the teachers, (N, K + F)."""
        scores, features = zip(*(self._answer(teacher, streams, mask) for teacher in self.teachers), strict=True)
        return torch.cat([soften(scores, self.temperature), *features], dim=1)

    def _answer(self, network: nn.Module, streams: Mapping[str, Tensor], mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Scores (N, K) and pooled features, (N, features); none of these where there is no map."""
        layers = classifiers(network)
        hooks = [] if self.map is None else [layer.register_forward_hook(_append_input) for layer in layers]
        try:
            scores, features = network(streams, mask).float().tensor_split([layers[0].out_features], dim=1)
        finally:
            for hook in hooks:
                hook.remove()
        return scores, features


def classifiers(network: nn.Module) -> list[nn.Linear]:
    """The last layer of a network, or of each of its backbones."""
    named = ((name.rpartition(".")[2], layer) for name, layer in network.named_modules())
    return [layer for name, layer in named if name == "classifier" and isinstance(layer, nn.Linear)]


def _append_input(layer: nn.Module, inputs: tuple[Tensor], scores: Tensor) -> Tensor:
    """Let the features go the way of the scores, so that they are summed over streams and averaged over bodies too."""
    return torch.cat([scores, inputs[0]], dim=1)
