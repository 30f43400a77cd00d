"""Networks, each file a paper; importing the package registers them."""

from last.models import last_e, last_v2
from last.models.registry import ALIASES, Network, canonical_name, create_model, list_models

__all__ = ["ALIASES", "Network", "canonical_name", "create_model", "last_e", "last_v2", "list_models"]
