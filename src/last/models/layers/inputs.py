"""Which streams a network takes."""

from collections.abc import Sequence


def one_stream(network: str, streams: Sequence[str]) -> tuple[str, ...]:
    """The streams of a network that takes one.

    Raises:
        ValueError: there are none or several.
    """
    if len(streams) != 1:
        raise ValueError(
            f"{network} takes one stream, it was given {len(streams)} ({', '.join(streams)}); train one network for "
            "each and sum their scores"
        )
    return tuple(streams)


def joint_alone(network: str, streams: Sequence[str]) -> tuple[str, ...]:
    """The streams of a network that makes its inputs of the joint stream.

    Raises:
        ValueError: others are asked for.
    """
    if tuple(streams) != ("joint",):
        raise ValueError(
            f"{network} makes its inputs of the joint stream, and was asked to take {', '.join(streams)}; set "
            "model.streams to [joint]"
        )
    return tuple(streams)
