"""Every registered model against the published table; also runs alone: `python tests/test_model_integration.py`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import torch

import last
from last.models.cost import count_parameters
from last.skeleton import load_layout

# Parameters at 60 classes on the NTU skeleton.
TABLE = {
    "last_e_nano": 92_358,
    "last_e_small": 177_646,
    "last_e_base": 363_958,
    "last_e_large": 644_094,
    "last_v2_small": 2_938_564,
    "last_v2_base": 9_217_256,
    "last_v2_large": 19_920_076,
    "efficientgcn_b0": 306_201,
    "efficientgcn_b1": 410_337,
    "efficientgcn_b2": 534_465,
    "efficientgcn_b3": 754_601,
    "efficientgcn_b4": 1_119_945,
    "efficientgcn_b0_2021": 345_333,
    "efficientgcn_b1_2021": 518_877,
    "efficientgcn_b2_2021": 814_401,
    "efficientgcn_b3_2021": 1_146_845,
    "efficientgcn_b4_2021": 2_055_585,
    "sgn": 691_048,
    "ctrgcn": 1_446_672,
    "stgcnpp": 1_403_144,
    "ddnet": 1_836_348,
    "ddnet_small": 161_916,
}


def scores_of(model: torch.nn.Module) -> torch.Tensor:
    """Scores of two clips of two bodies, of which the second clip lacks one."""
    layout = load_layout("ntu")
    generator = torch.Generator().manual_seed(0)
    frames = getattr(model, "frames", 16)  # of a network that is built for a number of them
    streams = {name: torch.randn(2, 3, frames, len(layout.joints), 2, generator=generator) for name in model.streams}
    with torch.no_grad():
        return model.eval()(streams, torch.tensor([[True, True], [True, False]]))


def test_every_model_matches_the_table():
    assert set(last.list_models()) == set(TABLE)
    for name, expected in TABLE.items():
        model = last.create_model(name, num_classes=60)
        assert count_parameters(model) == expected, name
        scores = scores_of(model)
        assert scores.shape == (2, 60)
        assert scores.isfinite().all()


def main() -> int:
    """Print the table and return 1 where a model differs from it."""
    failed = 0
    print(f"{'model':<15}{'parameters':>12}{'table':>12}  forward pass of 2 clips of 2 bodies")
    for name in last.list_models():
        model = last.create_model(name, num_classes=60)
        count, expected, scores = count_parameters(model), TABLE.get(name), scores_of(model)
        good = count == expected and scores.shape == (2, 60) and bool(scores.isfinite().all())
        failed += not good
        print(f"{name:<15}{count:>12,}{expected or 0:>12,}  {tuple(scores.shape)}  {'ok' if good else 'DIFFERS'}")
    print(f"{len(last.list_models()) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
