"""The effect Δ[token, neuron] of ablating a neuron of the last MLP, reduced to sums as it is computed.

``reference`` is a hooked forward pass, ``exact`` the rank-one identity, ``certified`` a second-order pass with bounds
that are proven up to measured rounding, and ``sums`` holds the public calls. The engine requires only torch, numpy and
jaxtyping.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from raretok.ablation.replacement import Replacement
    from raretok.ablation.sums import DocumentSums, ablate, ablate_group, merge, pair_effects
    from raretok.ablation.tiles import PairEffects, TileInputs, make_engine, replaced_by, tile_inputs

__all__ = [
    "DocumentSums",
    "PairEffects",
    "Replacement",
    "TileInputs",
    "ablate",
    "ablate_group",
    "make_engine",
    "merge",
    "pair_effects",
    "replaced_by",
    "tile_inputs",
]
_TILES = ["PairEffects", "TileInputs", "make_engine", "replaced_by", "tile_inputs"]
_HOMES = {"replacement": ["Replacement"], "tiles": _TILES}


def __getattr__(name: str) -> Any:
    """Import the requested object on first access, and torch with it."""
    if name in __all__:
        home = next((home for home, names in _HOMES.items() if name in names), "sums")
        return getattr(import_module(f"raretok.ablation.{home}"), name)
    raise AttributeError(f"module 'raretok.ablation' has no attribute {name!r}")
