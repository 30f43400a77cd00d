"""Networks, each file a paper; importing the package registers them."""

from last.models import ctrgcn, ddnet, efficientgcn, last_e, last_v2, sgn, stgcnpp
from last.models.registry import (
    ALIASES,
    Network,
    canonical_name,
    create_model,
    families,
    family_of,
    list_models,
    settings_of,
)

__all__ = [
    "ALIASES",
    "Network",
    "canonical_name",
    "create_model",
    "ctrgcn",
    "ddnet",
    "efficientgcn",
    "families",
    "family_of",
    "last_e",
    "last_v2",
    "list_models",
    "settings_of",
    "sgn",
    "stgcnpp",
]
