"""A trained network with all that it needs to name the action in a clip.

Shapes: T frames, M bodies, V joints, C coordinates, K classes.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from last.config import from_dict
from last.data.batches import DeviceClips, Pipeline
from last.data.clean import CleanOptions, clean
from last.data.clip import Clip
from last.data.formats import Reading
from last.evaluate import predict
from last.kernels import accelerate
from last.models import Network, create_model, settings_of
from last.pretrained import find_pretrained
from last.setting_values import ConfigError
from last.settings import Config, KernelMode
from last.skeleton import Layout, layout_from_dict
from last.training.checkpoint import CheckpointError, load_weights, read_weights


def build_model(config: Config, num_classes: int, layout: Layout, training: bool = False) -> Network:
    """The network of a configuration, with fresh weights.

    Args:
        config: its settings.
        num_classes: size of the output.
        layout: the skeleton.
        training: with all that its recipe trains it with, else as it is deployed.

    Raises:
        ValueError: there is no such model, or it lacks a setting that the configuration gives.
    """
    model, data = config.model, config.data
    settings: dict[str, Any] = {name: getattr(model, name) for name in ("streams", "bodies", "dropout")}
    if model.confidence:
        settings["confidence"] = True
    if model.share_backbone is not None:
        settings["share_backbone"] = model.share_backbone
    if training and config.training.structure == "branched":
        settings["branched"] = True
    if training and config.training.auxiliary:
        settings["auxiliary"] = True
    # Some networks are built for a size of their input.
    sizes = {"frames": data.frames, "max_bodies": data.max_bodies}
    settings |= {name: size for name, size in sizes.items() if name in settings_of(model.name)}
    return create_model(model.name, num_classes, layout, **settings)


def describe(
    config: Config,
    classes: Sequence[str],
    layout: Layout,
    columns: Mapping[str, Any] | None = None,
    rests_on: Sequence[tuple[str, ...]] = (),
    test_part: str | None = None,
    cleaning: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What a file of weights must say of itself to be used again.

    Args:
        config: of its training.
        classes: the names of its outputs.
        layout: the skeleton that it takes.
        columns: of the tables that it was trained on.
        rests_on: of each training that it rests on, as :func:`last.lineage.rests_on` gives it.
        test_part: fingerprint of the test clips of its training; None where it is not known.
        cleaning: the :class:`CleanOptions` of its clips, by name; None where they are not known.
    """
    sections = config.to_dict()
    return {
        "model": sections["model"],
        "data": sections["data"] | {"path": None},
        "layout": layout.to_dict(),
        "classes": list(classes),
        "columns": dict(columns or {}),
        **({"rests_on": rests_on} if rests_on else {}),
        **({"test_part": test_part} if test_part else {}),
        **({"cleaning": cleaning} if cleaning else {}),
    }


def choose_device(name: str = "auto") -> torch.device:
    """``auto`` takes a CUDA GPU where there is one, else the CPU.

    Raises:
        ConfigError: there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.partition(":")[0] not in {"cpu", "cuda"}:  # of others PyTorch would list all that it has ever known
        raise ConfigError(f"--device is {name}, expected auto, cpu, cuda or cuda:N")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"--device {name} cannot be used here ({reason}); use auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)  # questions without a device, such as for bfloat16, are about this one
    return device


def weights_file(path: Path) -> Path:
    """The weights of a run's last epoch, the .safetensors file itself, or those of a pretrained network, by its name.

    A file or folder that is there wins over a name.

    Raises:
        CheckpointError: there are none.
    """
    if len(path.parts) == 1 and path.suffix != ".safetensors" and not path.exists():
        return find_pretrained(path.name).weights
    weights = path / "last.safetensors" if path.is_dir() else path
    if not weights.is_file():
        raise CheckpointError(
            f"no weights at {weights}; give the folder of a finished run, or a .safetensors file from one (an "
            "interrupted run goes on with 'last train --resume')"
        )
    return weights


class Recognizer:
    """Names the action in a clip.

    Args:
        path: a run's folder, a .safetensors file from one, or the name of a pretrained network.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        kernels: see :func:`last.kernels.accelerate`.

    Attributes:
        model: the network, in evaluation mode.
        layout: the skeleton that it takes.
        classes: the names of its outputs.
        reading: of the files that it was trained on.
        pipeline: from joints to its input.
        config: the settings of its network and clips; all others have their defaults.
        rests_on: each training behind it but its own, by its start or its teachers, as
            :func:`last.lineage.rests_on` gives it.
        test_part: fingerprint of the test clips of its own training; None where the file does not say it.
        cleaning: of the clips that it was trained on; by its settings where the file does not say it.

    Raises:
        CheckpointError: there are no weights, or they are damaged.
        ConfigError: their settings or layout are wrong, there is no such device, or there are no fused kernels where
            they are insisted on.
    """

    def __init__(self, path: Path | str, device: str | torch.device = "auto", kernels: KernelMode = "auto"):
        weights = weights_file(Path(path))
        tensors, description = read_weights(weights)
        try:
            self.layout = layout_from_dict(description["layout"], str(weights))
            self.classes = tuple(map(str, description["classes"]))
            columns = {**description.get("columns", {})}
            self.reading = Reading(self.layout, self.classes, columns, joints_alone=True)
            trainings = [(data, protocol, *rest) for data, protocol, *rest in description.get("rests_on", ())]
            self.rests_on = tuple(tuple(map(str, training)) for training in trainings)
            self.test_part = str(description["test_part"]) if description.get("test_part") else None
            sections = {"model": description["model"], "data": description["data"]}
            self.config = config = from_dict(sections, str(weights))
            # A store may hold more bodies than the network takes, and the frames in which any of them is seen.
            cleaned = from_dict({"data": {**sections["data"], **description.get("cleaning", {})}}, str(weights))
            self.cleaning = CleanOptions.from_config(cleaned.data)
        except ConfigError:  # which tells it by its key
            raise
        except KeyError as error:
            raise CheckpointError(f"{weights} does not say its {error}; it was not written by 'last train'") from error
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                f"{weights} says of itself what is of another type than 'last train' writes ({error}); it is damaged"
            ) from error
        self.device = choose_device(device) if isinstance(device, str) else device
        self.model = build_model(config, len(self.classes), self.layout)
        load_weights(self.model, tensors, str(weights))
        self.model.to(self.device).eval()
        accelerate(self.model, self.device, kernels)
        self.pipeline = Pipeline.from_config(config.data, config.model, self.layout)

    def predict(
        self, joints: np.ndarray | Tensor, top: int = 5, confidence: np.ndarray | Tensor | None = None
    ) -> list[tuple[str, float]]:
        """The most probable classes of one clip, best first, with their probabilities.

        Args:
            joints: (T, V, C) for one body or (T, M, V, C), at the clip's true length, in the units and the joint order
                of the layout; NaN where a joint is missing.
            top: how many.
            confidence: of each joint, from 0 to 1, (T, V) or (T, M, V); for networks that were trained with it.

        Raises:
            ValueError: the shapes do not fit each other or the layout, or there is no joint at all.
        """
        values, sure = _as_array(joints), None if confidence is None else _as_array(confidence)
        if values.ndim == 3:
            values, sure = values[:, None], None if sure is None else sure[:, None]
        if values.ndim != 4:
            raise ValueError(
                f"joints have the shape {values.shape}, expected (frames, joints, coordinates) or (frames, bodies, "
                "joints, coordinates)"
            )
        clip = Clip(values, "clip", self.layout.name, confidence=sure)
        return self.rank(self.predict_clips([clip]), top)[0]

    def predict_clips(self, clips: Sequence[Clip], batch_size: int = 64) -> np.ndarray:
        """Probabilities of clips as their files hold them, (N, K); they are cleaned as those of its training.

        Raises:
            ValueError: a clip's shape does not fit the layout, or it shows no joint at all.
        """
        rows = DeviceClips.from_clips([self.clean(clip)[0] for clip in clips], self.device)
        return predict(self.model, self.pipeline, rows, batch_size, self.config.data.test_crops).numpy()

    def rank(self, probabilities: np.ndarray, top: int) -> list[list[tuple[str, float]]]:
        """For each row of probabilities, (N, K), the best classes with theirs, best first."""
        best = np.argsort(-probabilities, axis=1)[:, :top]
        return [[(self.classes[k], float(row[k])) for k in ks] for row, ks in zip(probabilities, best, strict=True)]

    def clean(self, clip: Clip) -> tuple[Clip, Counter[str]]:
        """The clip as the network is given it, and how many bodies and frames were dropped and joints filled.

        Raises:
            ValueError: its shape does not fit the layout, or it shows no joint at all.
        """
        expected = (len(self.layout.joints), self.layout.dimensions)
        if clip.joints.shape[2:] != expected:
            raise ValueError(
                f"clip '{clip.name}' has {clip.joints.shape[2]} joints of {clip.joints.shape[3]} coordinates, but the "
                f"network was trained on layout '{self.layout.name}' with {expected[0]} of {expected[1]}"
            )
        cleaned, counts = clean(clip, self.layout, self.cleaning)
        if cleaned is None:
            raise ValueError(f"clip '{clip.name}' shows no joint that is not missing, so there is nothing to recognise")
        return cleaned, counts


def _as_array(values: np.ndarray | Tensor) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float32)


def load_model(path: Path | str, device: str | torch.device = "cpu") -> nn.Module:
    """The network in a run's folder or a .safetensors file, or a pretrained one by its name, in evaluation mode.

    It is called with streams, as :class:`last.models.registry.Network` says: a mapping from each of its ``streams``
    to (N, C, T, V, M), and the present bodies, (N, M) bool or None for all. A :class:`Recognizer` takes joints instead.

    Raises:
        CheckpointError: there are no weights, or they are damaged.
    """
    return Recognizer(path, device).model
