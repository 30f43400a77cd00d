"""What a file format is: which files are of it, which clips they hold, and how one is read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePath
from typing import Any

from last.data.clip import Clip
from last.data.formats.source import Source
from last.skeleton import Layout


@dataclass(frozen=True)
class Reading:
    """What a person says of files that do not say it themselves.

    Attributes:
        layout: of the joints; None where the file names its joints, or their number leaves one choice.
        classes: names of the labels, in order; empty where the file numbers them.
        columns: for tables, which column holds what; see :mod:`last.data.formats.columns`.
        joints_alone: only the columns of the joints need be there, as in recordings that are to be named or drawn,
            which do not tell what and who they show, or tell others than those of the training.
    """

    layout: Layout | None = None
    classes: tuple[str, ...] = ()
    columns: Mapping[str, Any] = field(default_factory=dict)
    joints_alone: bool = False


@dataclass(frozen=True)
class Format:
    """One file format.

    Attributes:
        name: as in ``FORMATS``.
        title: one line for people.
        suffix: with which its files' names end, in lower case.
        read: from a clip's source to the clip, as it is in the file.
        layout: name of its clips' layout; empty where the file or the person tells.
        clips: names of the clips in a file; None where each file holds one.
        clip_name: from a file's path to the name of its clip; None takes the file's name without ``suffix``.
        is_one_frame: each file is one frame, and files of the same ``clip_name`` in a folder are one clip.
        claims: whether a file with the suffix is of this format, where others share it; reads the file.
        takes_reading: ``read`` and ``clips`` want a ``reading`` too.
        has_columns: a person says by the reading's ``columns`` what its files hold.
        reading: the one that they were bound to.
    """

    name: str
    title: str
    suffix: str
    read: Callable[..., Clip]
    layout: str = ""
    clips: Callable[..., list[str]] | None = None
    clip_name: Callable[[PurePath], str] | None = None
    is_one_frame: bool = False
    claims: Callable[[Source], bool] | None = None
    takes_reading: bool = False
    has_columns: bool = False
    reading: Reading | None = None

    def with_reading(self, reading: Reading) -> "Format":
        """The format as a person's files have it."""
        if not self.takes_reading:
            return self
        clips = self.clips and partial(self.clips, reading=reading)
        layout = reading.layout.name if reading.layout else self.layout
        read = partial(self.read, reading=reading)
        return replace(self, read=read, clips=clips, layout=layout, reading=reading)

    def of_joints_alone(self) -> "Format":
        """The format as files have it that need not tell what and who they show."""
        return self.with_reading(replace(self.reading, joints_alone=True)) if self.reading else self

    def name_of(self, file: PurePath) -> str:
        """The name of the clip that a file holds."""
        return self.clip_name(file) if self.clip_name else file.name[: -len(self.suffix)]

    def source(self, path: Path | str, member: str = "") -> Source:
        """The source of a clip in a file of its own."""
        source = Source(Path(path), member)
        return replace(source, clip=self.name_of(source.file))
