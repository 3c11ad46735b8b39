"""A graphics card that is not there: tensors that say ``CARD`` and are computed on the CPU.

An operation that mixes them with tensors of the CPU fails, as it would on a card, and so does a conversion to numpy
without a copy to the CPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

aten = torch.ops.aten
CARD = "meta"
"""The device of the pretended card: one that every build of torch knows and that holds no values of its own."""
COPIES = {aten._to_copy.default, aten.copy_.default}


class Pretended(torch.Tensor):
    """A tensor that says ``CARD``, with its ``value`` on the CPU."""

    value: torch.Tensor

    @staticmethod
    def __new__(cls, value: torch.Tensor) -> "Pretended":
        made = torch.Tensor._make_wrapper_subclass(
            cls, value.shape, value.stride(), value.storage_offset(), dtype=value.dtype, device=CARD
        )
        made.value = value
        return made

    def tolist(self) -> Any:
        """The values, copied to the CPU as a card would; torch has none for a subclass."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


class _Mode(TorchDispatchMode):
    """Sends tensors that are made on ``CARD``, or copied to it, to the pretended card."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
    there = [x for x in tensors if isinstance(x, Pretended)]
    here = [x for x in tensors if not isinstance(x, Pretended) and x.ndim]
    if there and here and func not in COPIES:
        raise RuntimeError(f"{func} of tensors on the card and on the CPU")
    device = kwargs.get("device")
    to_card = torch.device(device).type == CARD if device is not None else bool(there)
    if func is aten.copy_.default:
        to_card = isinstance(args[0], Pretended)
    if device is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    known = {id(x.value): x for x in there}

    def on_card(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        return known[id(x)] if id(x) in known else Pretended(x)

    plain_args, plain_kwargs = tree_map(lambda x: x.value if isinstance(x, Pretended) else x, (args, kwargs))
    result = func(*plain_args, **plain_kwargs)
    if not to_card:
        return result
    return tree_map(on_card, result)


@contextmanager
def pretended_card() -> Iterator[None]:
    """Within this context, ``CARD`` is the pretended card."""
    torch._C._ensureCUDADeviceGuardSet()
    with patch("torch.inference_mode", torch.no_grad), _Mode():  # Inference tensors cannot be wrapped.
        yield
