"""Open many damaged files of each format: `python scripts/fuzz.py --examples 2000 --formats ntu csv --keep faults`.

Each must give its clips or a FormatError that names it, within a second and 500 MB; see tests/data/examining.py. Those
that do otherwise are kept with what happened. Ends with 1 if there is one.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, assume, given, seed, settings

from last.provenance import record

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "data"))
from examining import KINDS, SAMPLES, Outcome  # ty: ignore[import-not-found]
from fuzzing import Case, Child, damaged, samples  # ty: ignore[import-not-found]


@dataclass
class Tally:
    """What came of the files of a format; ``slowest`` in seconds of processor time, ``memory`` in bytes."""

    examples: int = 0
    clips: int = 0
    refusals: int = 0
    faults: int = 0
    slowest: float = 0.0
    memory: int = 0

    def add(self, outcome: Outcome) -> None:
        """Count a file."""
        self.examples += 1
        self.clips += outcome.clips
        self.refusals += len(outcome.refusals)
        self.faults += bool(outcome.fault)
        self.slowest = max(self.slowest, outcome.seconds)
        self.memory = max(self.memory, outcome.memory)


def fuzz(kind: str, examples: int, first_seed: int, keep: Path) -> Tally:
    """Open so many damaged files of a format, no two alike; each fault is told as it is met."""
    tally = Tally()
    good = samples(kind)
    opened = {case.digest() for case in good}
    with TemporaryDirectory() as name:
        warm_up = SAMPLES[kind](Path(name), np.random.default_rng(0))
        with Child({kind: warm_up}) as child:

            @seed(first_seed)
            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(damaged(good))
            def run(case: Case) -> None:
                assume(case.digest() not in opened)
                opened.add(case.digest())
                with TemporaryDirectory() as name:
                    outcome = child.open(kind, case.write(Path(name)), Path(name))
                tally.add(outcome)
                if outcome.fault:
                    folder = keep / kind / f"{first_seed}-{tally.examples:05d}"
                    case.write(folder)
                    (folder / "fault.txt").write_text(f"open {case.opened}\n{outcome.fault}\n", encoding="utf-8")
                    print(f"{folder}: {outcome.fault}", file=sys.stderr)

            run()
    return tally


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz, print the table, and write the record where one is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--examples", type=int, default=2000, help="damaged files of each format")
    parser.add_argument("--formats", nargs="+", choices=KINDS, default=KINDS, metavar="NAME")
    parser.add_argument("--seed", type=int, default=0, help="the same seed, code and libraries make the same files")
    parser.add_argument("--keep", type=Path, default=Path("faults"), help="folder for the files that show a fault")
    parser.add_argument("--json", type=Path, help="record of the run to write")
    args = parser.parse_args(arguments)

    started = time.perf_counter()
    print(f"seed {args.seed}, {args.examples} files of each of {len(args.formats)} kinds")
    columns = ("format", "files", "clips", "refusals", "faults", "slowest, s", "memory, MB")
    print(f"{columns[0]:22}" + "".join(f"{column:>12}" for column in columns[1:]))
    tallies = {}
    for kind in args.formats:
        tallies[kind] = t = fuzz(kind, args.examples, args.seed, args.keep)
        numbers = f"{t.examples:12,}{t.clips:12,}{t.refusals:12,}{t.faults:12,}{t.slowest:12.2f}{t.memory / 1e6:12.0f}"
        print(f"{kind:22}{numbers}", flush=True)
    files, faults = (sum(getattr(tally, key) for tally in tallies.values()) for key in ("examples", "faults"))
    print(f"{files:,} files, {faults} faults")
    if args.json:
        content = {
            "kind": "fuzz",
            **record(f"python scripts/fuzz.py {' '.join(sys.argv[1:])}", torch.device("cpu")),
            "seed": args.seed,
            "seconds": round(time.perf_counter() - started),
            "files": files,
            "faults": faults,
            "formats": {kind: asdict(tally) for kind, tally in tallies.items()},
        }
        args.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
