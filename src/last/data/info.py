"""What a store is and where it comes from: what ``last data info`` prints."""

from pathlib import Path
from typing import Any

import numpy as np

from last.config import available
from last.data.clip import UNKNOWN
from last.data.datasets import list_datasets
from last.data.protocols import ProtocolError, protocols_for, split
from last.data.store import ClipStore


def describe(store: ClipStore, dataset: str | None = None, verify: bool = False) -> dict[str, str]:
    """The facts of a store, name to value, in the order in which a person asks for them.

    Args:
        store: the clips.
        dataset: whose protocols count besides the store's own; None: the packaged one that it looks to be.
        verify: compare all files with their checksums, which reads them whole.
    """
    meta, layout = store.meta, store.layout
    size = sum(file.stat().st_size for file in store.path.iterdir() if file.is_file())
    dataset = packaged_dataset(store) if dataset is None else dataset
    facts = {
        "store": f"{store.path}, version {meta['version']}, made on {meta.get('created', 'an unknown date')}",
        "data set": dataset or "none that is packaged",
        "layout": f"{layout.name}, {len(layout.joints)} joints in {layout.dimensions} dimensions",
        "classes": f"{len(store.classes)}: {', '.join(store.classes)}",
        "clips": f"{len(store):,}",
        **_ranges(store),
        "joints": f"{meta['rows']:,} rows of {store.joints.dtype.name}, "
        + ("every joint seen" if store.confidence is None else "with confidences"),
        "on disk": f"{size / 1e6:,.1f} MB",
    }
    for part in meta["parts"]:
        facts[f"part {part}"] = f"{store.in_part(part).sum():,} clips"
    for name in protocols_for(store, dataset):
        facts[f"protocol {name}"] = _sizes(store, name, dataset)
    facts |= {f"origin: {key}": text for key, value in meta["provenance"].items() if (text := _in_words(value))}
    if verify:
        damaged = store.damaged_files()
        facts["checksums"] = f"not those of {', '.join(damaged)}" if damaged else "those of all files"
    return facts


def packaged_dataset(store: ClipStore) -> str:
    """Name of the packaged data set of this layout and these classes; empty where there is none."""
    alike = (known for known in list_datasets() if known.layout == store.layout and known.classes == store.classes)
    return next((known.name for known in alike), "")


def other_stores(data_root: Path) -> list[Path]:
    """The stores in a folder that have no name of a packaged data set, by name."""
    folders = (file.parent for file in data_root.glob("[!.]*/meta.json"))
    return sorted(folder for folder in folders if folder.name not in available("data"))


def _ranges(store: ClipStore) -> dict[str, str]:
    """How long the clips are, how many bodies they show, and how many subjects and so on there are."""
    if not len(store):
        return {}
    facts = {}
    for key in ("frames", "bodies"):
        values = store.clips[key]
        facts[key] = f"{values.min()} to {values.max()} a clip, median {np.median(values):.0f}"
    for key in ("subject", "camera", "setup", "replication"):
        known = np.unique(store.clips[key][store.clips[key] != UNKNOWN])
        if len(known):
            facts[f"{key}s"] = f"{len(known)}, numbered {known[0]} to {known[-1]}"
    return facts


def _sizes(store: ClipStore, protocol: str, dataset: str) -> str:
    try:
        train, test = split(store, protocol, dataset)
    except ProtocolError as error:
        return str(error)
    neither = len(store) - len(train) - len(test)
    return f"{len(train):,} train, {len(test):,} test" + (f", {neither:,} do neither" if neither else "")


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        # Lists within, of the columns of a table, are long and of little interest.
        return ", ".join(f"{key} {len(part) if isinstance(part, list) else part}" for key, part in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
