"""The plan that most networks of skeletons share: stages of blocks, each wider than the last and half as long."""

from collections.abc import Iterator, Sequence


def block_sizes(
    in_channels: int, channels: Sequence[int], blocks: Sequence[int]
) -> Iterator[tuple[int, int, int, int]]:
    """The blocks of all stages; the first of all but the first stage halves the frames.

    Args:
        in_channels: of the first block.
        channels: of each stage.
        blocks: of each stage.

    Yields:
        Number of the stage, channels in, channels out, and stride of each block.
    """
    width = in_channels
    for stage, (size, depth) in enumerate(zip(channels, blocks, strict=True)):
        for block in range(depth):
            yield stage, width, size, 2 if stage > 0 and block == 0 else 1
            width = size
