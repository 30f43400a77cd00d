"""Networks side by side, from the records of their runs: who is ahead of whom, and where LAST is not."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import mean
from typing import Literal

import numpy as np

from last.bench.entries import FOLDS, Entry, Record, board_of, entries, spread
from last.bench.significance import Difference, paired_bootstrap
from last.config import available, from_dict, load_config
from last.data.datasets import load_dataset
from last.models import settings_of as network_settings
from last.models.cost import count_macs
from last.run import span_of
from last.setting_values import ConfigError
from last.settings import ModelConfig, is_of_last

Verdict = Literal["wins", "loses", "no difference shown", "one seed", "not measured"]

# What always stands in the table, measured or not.
DATASETS = ("nw_ucla", "utd_mhad", "sbu", "msr_action3d", "penn_action")
MODELS = (
    *("last_e_nano", "last_e_small", "last_e_base", "last_e_large"),
    *("efficientgcn_b0", "efficientgcn_b1", "efficientgcn_b2", "efficientgcn_b4"),
    *("ddnet_small", "ddnet", "ctrgcn"),
)
# Each of LAST's sizes, and the peers that it has to beat: EfficientGCN of its tier, and the cheapest network there is.
TIERS = {
    "last_e_nano": ("efficientgcn_b0", "ddnet_small"),
    "last_e_small": ("efficientgcn_b1", "ddnet_small"),
    "last_e_base": ("efficientgcn_b4", "ddnet_small"),
    "last_e_large": ("efficientgcn_b4", "ddnet_small"),
}


@dataclass(frozen=True)
class Comparison:
    """One of LAST's networks, by the recipe of the data set, against a peer of its tier, by the best of the peer's.

    Attributes:
        model: LAST's.
        peer: the other's name.
        difference: of the first over the second; None where nothing can be said.
        reason: why nothing can be said.
        alone: those of the two that have a single seed, so that nothing is said of others.
    """

    model: str
    peer: str
    difference: Difference | None = None
    reason: str = ""
    alone: Sequence[str] = ()

    @property
    def verdict(self) -> Verdict:
        """In a word, at a significance of 5 %; none where a network has one seed, which may have been a lucky one."""
        if self.difference is None:
            return "not measured"
        if self.alone:
            return "one seed"
        if self.difference.p >= 0.05:
            return "no difference shown"
        return "wins" if self.difference.points > 0 else "loses"

    @property
    def words(self) -> str:
        """The difference with its 95 % interval and p, and who has one seed alone; or why there is none."""
        if self.difference is None:
            return self.reason
        return str(self.difference) + (f", one seed of {' and '.join(self.alone)}" if self.alone else "")


@dataclass(frozen=True)
class Board:
    """All that was measured by one protocol of a data set, with whole clips or the crops that the recipe says.

    Attributes:
        dataset: its name.
        protocol: see :func:`board_of`.
        entries: by network, those with complete seeds and the best mean first.
        recipe: that of the data set, by which LAST's networks count, however good they are by others; None where all
            count.
    """

    dataset: str
    protocol: str
    entries: Mapping[str, Sequence[Entry]]
    recipe: str | None = None

    def counting(self, model: str) -> Entry | None:
        """What counts of a network: of a peer the best, which the test part chose; of LAST what was chosen before.

        Of several by the recipe, with other settings, that over most seeds counts, and of these the worst.
        """
        found = self.entries.get(model, ())
        if self.recipe is None or not is_of_last(model):
            return next(iter(found), None)
        own = [entry for entry in found if entry.first["recipe"] == self.recipe]
        return max(reversed(own), key=lambda entry: len(entry.complete), default=None)

    def compare(self, model: str, peer: str) -> Comparison:
        """A network of LAST against another."""
        one, other = self.counting(model), self.counting(peer)
        if one is None or other is None:
            missing = [name for name, entry in ((model, one), (peer, other)) if entry is None]
            by = f" by {self.recipe}" if self.entries.get(model) and one is None else ""
            return Comparison(model, peer, reason=f"no run of {' and '.join(missing)}{by}")
        if reason := _incomparable(one, other):
            return Comparison(model, peer, reason=reason)
        # The same draws each time: a table changes only where its records do.
        generator = np.random.default_rng(0)
        difference = paired_bootstrap(one.correct(), other.correct(), generator)
        alone = [entry.model for entry in (one, other) if len(entry.complete) == 1]
        return Comparison(model, peer, difference, alone=alone)

    def markdown(self, models: Sequence[str]) -> str:
        """A table of these networks, measured or not, and of all others that are."""
        lines = [
            "| model | parameters | MACs, M | recipe, epochs | seeds | top-1 | minutes a seed | against its peers |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for model in (*models, *(name for name in self.entries if name not in models)):
            if model not in self.entries:
                lines.append(f"| {' | '.join((model, *[''] * 4, 'not measured', '', ''))} |")
                continue
            counts = self.counting(model)
            versus = [self.compare(model, peer) for peer in TIERS.get(model, ()) if counts]
            end = "; ".join(f"{v.peer}: {v.verdict}, {v.words}" for v in versus)
            for entry in self.entries[model]:
                row = (*_cells(entry, entry is counts), end if entry is counts else "")
                lines.append(f"| {' | '.join(row)} |")
        return "\n".join(lines) + "\n"


def boards(records: Iterable[Record], datasets: Sequence[str] = ()) -> list[Board]:
    """The boards of data sets by their default protocols, measured or not, and all others that are measured.

    Args:
        records: of any kind; of accuracies, those of the last epoch and the recipe's own test-time crops are taken.
        datasets: names of packaged data sets.
    """
    standing = [(name, board_of(load_config(dataset=name).data.protocol)) for name in datasets]
    found: dict[tuple[str, str], dict[str, list[Entry]]] = {key: defaultdict(list) for key in standing}
    for entry in entries(record for record in records if record["kind"] == "accuracy" and as_stated(record)):
        found.setdefault((entry.first["dataset"], entry.protocol), defaultdict(list))[entry.model].append(entry)
    for networks in found.values():
        for members in networks.values():
            members.sort(key=_rank, reverse=True)
    return [Board(*key, networks, _recipe_of(key[0])) for key, networks in found.items()]


def _recipe_of(dataset: str) -> str | None:
    """The recipe of a data set; None of a person's own, whose description no record holds."""
    return load_config(dataset=dataset).training.recipe if dataset in available("data") else None


def _rank(entry: Entry) -> tuple[float, int]:
    """The higher mean first; of those alike to a tenth of a point the one over more seeds, which says more."""
    return (round(mean(entry.scores()), 1) if entry.complete else -1, len(entry.complete))


def scoreboard(found: Iterable[Board], models: Sequence[str] = MODELS) -> str:
    """The tables of all boards, in Markdown."""
    return "\n".join(f"**{b.dataset}**, {_protocol(b)}\n\n{b.markdown(models)}" for b in found)


def losses(found: Iterable[Board]) -> str:
    """Where LAST loses, is not shown to be ahead, or was not measured enough to tell, in Markdown."""
    order: tuple[Verdict, ...] = ("wins", "loses", "no difference shown", "one seed", "not measured")
    all_of = [(board, board.compare(model, peer)) for board in found for model in TIERS for peer in TIERS[model]]
    count = {verdict: sum(versus.verdict == verdict for _, versus in all_of) for verdict in order}
    lines = [
        f"Of {len(all_of)} comparisons with the tier's peers, LAST wins {count['wins']}, loses {count['loses']} and "
        f"shows no difference in {count['no difference shown']}; {count['one seed']} rest on one seed of a network, "
        f"which is no verdict, and {count['not measured']} are not measured.",
        "",
        "| | data set | model | peer | difference, or why there is none |",
        "|---|---|---|---|---|",
    ]
    for verdict in order[1:-1]:
        lines += [
            f"| {verdict} | {board.dataset} | {versus.model} | {versus.peer} | {versus.words} |"
            for board, versus in all_of
            if versus.verdict == verdict
        ]
    missing = defaultdict(list)
    for board, versus in all_of:
        if versus.verdict == "not measured":
            missing[board.dataset, versus.model].append(versus)
    for (dataset, model), each in missing.items():
        peers, reasons = ", ".join(versus.peer for versus in each), "; ".join(versus.words for versus in each)
        lines.append(f"| not measured | {dataset} | {model} | {peers} | {reasons} |")
    return "\n".join(lines) + "\n"


def _incomparable(*both: Entry) -> str:
    """Why nothing can be said of two entries, or nothing."""
    if partial := [entry.model for entry in both if not entry.complete]:
        return f"not all {FOLDS} of {' and '.join(partial)}"
    if silent := [entry.model for entry in both if any(None in parts for parts in entry.test_clips)]:
        return f"records of {' and '.join(silent)} do not say which clips were right"
    return "" if len(set.union(*(entry.test_clips for entry in both))) == 1 else "tested on different clips"


def as_stated(record: Record) -> bool:
    """Whether an accuracy is that of the last epoch, of the crops and spans that the recipe says."""
    data = record["config"]["data"]
    return (record["weights"], record["crops"], span_of(record)) == ("last", data["test_crops"], data.get("test_span"))


def _protocol(board: Board) -> str:
    return f"mean over {FOLDS}" if board.protocol == FOLDS else board.protocol


def _cells(entry: Entry, counts: bool) -> tuple[str, ...]:
    top1 = spread(entry.scores()) if entry.complete else "not measured"
    partial = [
        f"of seed {seed} {FOLDS} {', '.join(part.removeprefix('fold') for part in tested)} of {len(entry.parts)}"
        for seed, tested in entry.by_seed.items()
        if seed not in entry.complete
    ]
    minutes = defaultdict(list)
    for seed in entry.complete:
        tested = entry.by_seed[seed].values()
        machine = " and ".join(sorted({record["hardware"] for record in tested}))
        minutes[machine].append(sum(record["seconds"] for record in tested) / 60)
    macs = macs_of(entry)
    return (
        entry.model,
        f"{entry.first['parameters']:,}",
        "not counted" if macs is None else f"{macs / 1e6:,.1f}",
        f"{entry.first['recipe']}, {entry.first['epochs']}",
        "; ".join([str(len(entry.complete)), *partial]),
        f"**{top1}**" if counts and entry.complete else top1,
        "; ".join(f"{mean(each):.0f} ({machine})" for machine, each in minutes.items()),
    )


def macs_of(entry: Entry) -> int | None:
    """MACs of a clip at the frames, joints, bodies and crops of the runs; None where the data set is unknown."""
    config = from_dict(entry.first["config"], "a result")
    of_a_crop = _macs(config.model, entry.first["dataset"], config.data.frames, config.data.max_bodies)
    return None if of_a_crop is None else entry.first["crops"] * of_a_crop


@cache
def _macs(model: ModelConfig, name: str, frames: int, max_bodies: int) -> int | None:
    try:
        dataset = load_dataset(name)
    except ConfigError:
        return None  # a person's own set: nothing here says how many classes it has
    settings = {
        key: getattr(model, key)
        for key in ("streams", "confidence", "share_backbone")
        if key in network_settings(model.name) and getattr(model, key) is not None
    }
    bodies = 1 if model.bodies == "first" else max_bodies
    return count_macs(model.name, len(dataset.classes), dataset.layout, frames, bodies, **settings)
