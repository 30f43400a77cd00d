"""One clip to look at, from a raw file or a store."""

from pathlib import Path

from last.data.clip import Clip
from last.data.formats import list_clips
from last.data.store import ClipStore, StoreError
from last.skeleton import Layout, load_layout


def load_clip(path: Path, clip: str | None = None) -> tuple[Clip, Layout]:
    """A clip with its layout.

    Args:
        path: a raw file, a folder or zip of them, or a store.
        clip: name of the clip, or its number in the store; None takes the first.

    Raises:
        FormatError: the file is not what its format promises, or there is no such clip.
        StoreError: the store is damaged, or has no such clip.
    """
    if not (path / "meta.json").exists():
        known, source = list_clips(path, clip)[0]
        return known.read(source), load_layout(known.layout)
    store = ClipStore.open(path)
    if clip is None or clip.isdecimal():
        number = int(clip or 0)
        if number >= len(store):
            raise StoreError(f"no clip {number} in {path}; its {len(store):,} clips are numbered from 0")
        return store[number], store.layout
    try:
        return store[store.index(clip)], store.layout
    except KeyError:
        raise StoreError(f"no clip '{clip}' in {path}; the first is '{store[0].name}'") from None
