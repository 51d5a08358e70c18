"""Domains as plain arrays and back, for files that hold no code."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..domain import Box, Domain, Plane, Polygon, Segment, Slice, WholeSpace
from ..errors import FileError
from ..polytope import Polytope

Array = np.ndarray[Any, Any]
# What reading a damaged archive raises, numpy's and zipfile's own included
UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    NotImplementedError,
    zipfile.BadZipFile,
)
_KINDS: dict[str, type[Domain]] = {t.__name__: t for t in (Box, Plane, Polygon, Segment, Slice, WholeSpace)}


def arrays_of(domain: Domain) -> dict[str, Array]:
    """Return a domain as named arrays."""
    found: dict[str, Array] = {"domain": np.array(type(domain).__name__)}
    for field in fields(domain):  # type: ignore[arg-type]  # every domain is a dataclass
        value = getattr(domain, field.name)
        if isinstance(value, Polytope):
            found |= {"domain.rows": value.matrix.cpu().numpy(), "domain.bound": value.bound.cpu().numpy()}
        else:
            found[f"domain.{field.name}"] = value.cpu().numpy() if isinstance(value, Tensor) else np.array(value)
    return found


def domain_from(arrays: Mapping[str, Array], source: str) -> Domain:
    """Return the domain of named arrays. Raises FileError for one of an unknown kind."""
    kind = _KINDS.get(str(arrays["domain"]))
    if kind is None:
        raise FileError(f"{source}: expected a domain among {', '.join(_KINDS)}; got {str(arrays['domain'])!r}")
    domain = object.__new__(kind)
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name == "polytope":
            value: Any = Polytope.of(arrays["domain.rows"], arrays["domain.bound"])
        else:
            array = arrays[f"domain.{field.name}"]
            value = torch.from_numpy(array) if array.ndim else array.item()
        object.__setattr__(domain, field.name, value)
    shapes = np.shape(domain.origin), np.shape(domain.basis)
    if len(shapes[0]) != 1 or len(shapes[1]) != 2 or shapes[0][0] != shapes[1][0]:
        raise FileError(f"{source}: expected a domain with an origin (inputs,) and a basis (inputs, dim); got {shapes}")
    return domain
