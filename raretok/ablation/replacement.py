"""The replacement of an ablated activation: its mean over the kept positions, zero, or another position's value."""

from typing import Literal

Replacement = Literal["mean", "zero", "resample"]
