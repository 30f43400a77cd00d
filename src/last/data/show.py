"""One clip to look at, from a raw file or a store."""

from collections.abc import Iterable
from pathlib import Path

from last.data.clip import Clip
from last.data.formats import FORMATS, Format, list_clips
from last.data.store import ClipStore, StoreError
from last.skeleton import Layout, load_layout


def load_clip(
    path: Path,
    clip: str | None = None,
    *,
    formats: Iterable[Format] = FORMATS.values(),
    layout: Layout | None = None,
) -> tuple[Clip, Layout]:
    """A clip with its layout; of a described table the columns of the joints alone must be there.

    Args:
        path: a raw file, a folder or zip of them, or a store.
        clip: name of the clip or, where no clip has that name, its number in the store; None takes the first.
        formats: those of raw files to look for.
        layout: of the joints of a raw file; None: as the file has it.

    Raises:
        FormatError: the file is not what its format promises, or there is no such clip.
        StoreError: the store is damaged, or has no such clip.
        ConfigError: the file's layout is not known.
    """
    if not (path / "meta.json").exists():
        known, source = list_clips(path, clip, [known.of_joints_alone() for known in formats])[0]
        found = known.read(source)
        return found, layout or load_layout(found.layout)
    store = ClipStore.open(path)
    return store[_index(store, clip)], store.layout


def _index(store: ClipStore, clip: str | None) -> int:
    if not len(store):
        raise StoreError(f"no clip in {store.path}: it is empty")
    names = store.names()
    if clip is None or clip in names:
        return 0 if clip is None else names.index(clip)
    if not clip.isdecimal():
        raise StoreError(f"no clip '{clip}' in {store.path}; the first is '{names[0]}'")
    if int(clip) >= len(store):
        raise StoreError(f"no clip '{clip}' in {store.path}; its {len(store):,} clips are numbered from 0")
    return int(clip)
