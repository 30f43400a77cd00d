"""One clip to look at, from a raw file or a store."""

from pathlib import Path

from last.data.clip import Clip
from last.data.formats import read_clip
from last.data.store import ClipStore, StoreError
from last.skeleton import Layout, load_layout


def load_clip(path: Path, clip: str | None = None) -> tuple[Clip, Layout]:
    """The clip of a raw file, or one of a store's, with its layout.

    Args:
        path: a raw file, or a store's folder.
        clip: name or number of the clip in the store; None takes the first.

    Raises:
        FormatError: the file is not what its format promises.
        StoreError: the folder is no store, or has no such clip.
    """
    if path.is_file():
        read = read_clip(path)
        return read, load_layout(read.layout)
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
