"""One ATen operation as its handler sees it, and the table that the handlers register in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ._builder import Builder
from ._program import Live, Operand


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of one operation by the names of its schema."""

    given: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.given[name]
        except KeyError:
            raise AttributeError(name) from None

    def first(self) -> Any:
        """Return the first argument, which the schemas call self or input."""
        return next(iter(self.given.values())) if "self" not in self.given else self.given["self"]

    def has(self, name: str) -> bool:
        """Say whether an argument is given and not None."""
        return self.given.get(name) is not None


Handler = Callable[[Builder, Arguments], Any]
OPERATIONS: dict[str, Handler] = {}


def operation(*names: str) -> Callable[[Handler], Handler]:
    """Register a handler under the names of ATen operations."""

    def register(handler: Handler) -> Handler:
        OPERATIONS.update(dict.fromkeys(names, handler))
        return handler

    return register


def operand(value: Any) -> Operand:
    """Return a live value as it is, and a constant or number as a tensor in float64."""
    return value if isinstance(value, Live) else torch.as_tensor(value, dtype=torch.float64)


def listed(value: Any) -> list[int]:
    """Return an integer or a sequence of them as a list."""
    return [value] if isinstance(value, int) else list(value)
