"""Skeleton-based human action recognition that fits anywhere.

>>> import last
>>> model = last.create_model("last_e_nano", num_classes=60)
>>> "last_v2_base" in last.list_models()
True
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from last.models import create_model, list_models
    from last.recognizer import Recognizer, load_model

__version__ = "0.1.0"
__all__ = ["Recognizer", "create_model", "list_models", "load_model"]

_HOMES = {
    "create_model": "last.models",
    "list_models": "last.models",
    "load_model": "last.recognizer",
    "Recognizer": "last.recognizer",
}


def __getattr__(name: str) -> object:
    # PyTorch takes over a second to import, which 'last --help' need not wait for.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'last' has no attribute '{name}'")
