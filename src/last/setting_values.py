"""Values of settings as files and command lines give them, and the types that they stand for."""

import difflib
import math
import os
import types
import typing
from collections.abc import Iterable
from typing import Any, Literal

import yaml


class ConfigError(ValueError):
    """A setting that does not exist, has the wrong type, or contradicts another."""


class _WithoutAliases(yaml.SafeLoader):
    """Refuses aliases, by which a small file unfolds into gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.get_event()
            raise ConfigError(f"line {event.start_mark.line + 1} has the alias '*{event.anchor}'; write its value out")
        return super().compose_node(parent, index)


def parse_yaml(text: str) -> Any:
    """What a YAML text stands for: plain values, lists and mappings.

    Raises:
        ConfigError: it has an alias.
        Exception: it is not YAML; of dates and numbers that cannot be, PyYAML says so by nearly any.
    """
    return _WithoutAliases(text).get_single_data()


def convert(value: Any, hint: Any, key: str, source: str) -> Any:
    """Give a value its type; text from a command line and YAML's '1e-3' become numbers.

    Args:
        value: as given.
        hint: the type of the setting, as annotated.
        key: of the setting, for the error.
        source: where the value was given, for the error.

    Raises:
        ConfigError: it is none of that type.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    wrong = ConfigError(f"{key} in {source} is {value!r}, expected {_describe(hint)}")
    if origin in (types.UnionType, typing.Union):
        if value is None or (isinstance(value, str) and value.lower() in {"none", "null"}):
            return None
        try:
            return convert(value, next(a for a in args if a is not type(None)), key, source)
        except ConfigError:
            raise wrong from None
    if origin is Literal:
        if value not in args:
            raise wrong
        return value
    if origin is tuple:
        items = _listed(value) if isinstance(value, str) else value
        if not isinstance(items, (list, tuple)):
            raise wrong
        if args[-1] is Ellipsis:
            args = (args[0],) * len(items)
        if len(items) != len(args):
            raise wrong
        return tuple(convert(item, arg, key, source) for item, arg in zip(items, args, strict=True))
    if hint is bool:
        if isinstance(value, str) and value.lower() in {"true", "false"}:
            return value.lower() == "true"
        if not isinstance(value, bool):
            raise wrong
        return value
    if hint is str:
        if not isinstance(value, (str, os.PathLike)):
            raise wrong
        return os.fspath(value)
    if isinstance(value, bool):
        raise wrong
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise wrong from None
    if not math.isfinite(number) or (hint is int and not number.is_integer()):
        raise wrong
    return int(number) if hint is int else number


def _listed(text: str) -> Any:
    """The list that ``a, b`` or ``[a, b]`` stands for, or None."""
    try:
        return parse_yaml(text if text.startswith("[") else f"[{text}]")
    except Exception:  # see parse_yaml
        return None


def _describe(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(str, args))
    if origin in (types.UnionType, typing.Union):
        return " or ".join("none" if a is type(None) else _describe(a) for a in args)
    if origin is tuple:
        if args[-1] is Ellipsis:
            return f"a list of {_describe(args[0])} values"
        return f"a list of {len(args)} values ({', '.join(map(_describe, args))})"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[hint]


def nearest(name: str, valid: Iterable[str]) -> str:
    """A question after the name that was perhaps meant, or nothing."""
    close = difflib.get_close_matches(name, list(valid), n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
