"""What an exported program is called with and what it returns: inputs and outputs by name, free or fixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, final

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind
from torch.utils._pytree import tree_flatten_with_path, tree_leaves, tree_unflatten

from ..errors import ShapeError, UnsupportedError
from ._ports import Values, chosen_output, free_names, words


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One input of a program: what users call it, what its node is called, and a value to call the program with.

    `value` is an example where the input is `free`; `repeated` says that it is one row, repeated for every sample.
    """

    name: str
    node: str
    value: Any
    free: bool = False
    repeated: bool = False


@final
@dataclass(frozen=True, slots=True)
class Signature:
    """All inputs of a program in its own order, and the position of the output that counts."""

    entries: tuple[Entry, ...]
    output: int

    @property
    def examples(self) -> list[Tensor]:
        """The examples of the free inputs, all with as many rows."""
        return [e.value for e in self.entries if e.free]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype in which all free inputs can be written."""
        return reduce(torch.promote_types, [x.dtype for x in self.examples])

    def runner(self, program: ExportedProgram) -> Callable[..., Any]:
        """Return the program as a function of its free inputs, by position or by keyword as it was exported."""
        module, spec = program.module(), program.call_spec.in_spec

        def run(*free: Tensor) -> Any:
            given = iter(free)
            size = len(free[0])
            leaves = [next(given) if e.free else _rows(e.value, size) if e.repeated else e.value for e in self.entries]
            args, kwargs = tree_unflatten(leaves, spec)
            return module(*args, **kwargs)

        return run

    def batch_is_symbolic(self, program: ExportedProgram) -> bool:
        """Say whether the program takes batches of any size."""
        first = next(e.node for e in self.entries if e.free)
        meta = next(n.meta["val"] for n in program.graph.nodes if n.op == "placeholder" and n.name == first)
        return not isinstance(meta.shape[0], int)

    def chosen(self, returned: Any) -> Tensor:
        """Return the output that counts among all that a call has returned."""
        output: Tensor = tree_leaves(returned)[self.output]
        return output


def _rows(value: Tensor, size: int) -> Tensor:
    return value[:1].expand(size, *value.shape[1:])


# -- inputs


def program_entries(program: ExportedProgram) -> list[Entry]:
    """Return the inputs of a program in order, with its own examples where it has kept them."""
    specs = [s.arg for s in program.graph_signature.input_specs if s.kind == InputKind.USER_INPUT]
    metas = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    kept: list[Any] = tree_leaves(program.example_inputs) if program.example_inputs else []
    given = kept if len(kept) == len(specs) else [None] * len(specs)
    arguments = tree_unflatten(list(range(len(specs))), program.call_spec.in_spec)
    names = [_argument(path, spec.name) for (path, _), spec in zip(tree_flatten_with_path(arguments)[0], specs, strict=True)]
    found = []
    for name, spec, value in zip(names, specs, given, strict=True):
        constant = isinstance(spec, ConstantArgument)
        found.append(Entry(name=name, node=spec.name, value=spec.value if constant else _sample(value, metas[spec.name])))
    return found


def _argument(path: Sequence[Any], node: str) -> str:
    """Return what users call an input: its keyword, or what the exporter made of the parameter's name."""
    return words(path[1:]) if getattr(path[0], "idx", 0) == 1 else node


def _sample(value: Any, meta: Any) -> Any:
    if isinstance(value, Tensor) or not isinstance(meta, Tensor):
        return value
    return torch.zeros(tuple(int(s) for s in meta.shape), dtype=meta.dtype, device=meta.device)


def signature(program: ExportedProgram, inputs: Values | None, output: str | None, source: str) -> Signature:
    """Return how a program is called with some of its inputs fixed at values, and which output counts.

    Raises: InputError where a choice is missing or names nothing; ShapeError for values that do not fit; UnsupportedError
        for free inputs that are no batches of floating-point numbers.
    """
    entries = program_entries(program)
    known = {e.name: tuple(e.value.shape) for e in entries if isinstance(e.value, Tensor)}
    if not known:
        raise UnsupportedError(f"{source}: expected a model that takes a tensor; got {len(entries)} inputs, none of them one")
    free = free_names(known, inputs, source)
    rows = len(next(e.value for e in entries if e.name == free[0])) if known[free[0]] else 0
    metas = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    return signed(program, [_settled(e, free, inputs or {}, metas.get(e.node), rows) for e in entries], output, source)


def signed(program: ExportedProgram, entries: Sequence[Entry], output: str | None, source: str) -> Signature:
    """Return the signature of entries that are free or fixed already."""
    found = Signature(tuple(entries), output_position(program, output, source))
    _refuse_unfit([e for e in entries if e.free], source)
    return found


def _settled(entry: Entry, free: Sequence[str], inputs: Values, meta: Any, rows: int) -> Entry:
    if entry.name in free:
        return Entry(name=entry.name, node=entry.node, value=entry.value, free=True)
    if inputs.get(entry.name) is None:
        return entry
    declared = tuple(meta.shape)
    value = torch.as_tensor(inputs[entry.name], dtype=meta.dtype, device=meta.device).detach()
    value = value[None] if value.ndim == len(declared) - 1 else value
    symbolic = bool(declared) and not isinstance(declared[0], int)
    wanted = tuple(entry.value.shape)
    size = rows if symbolic else wanted[0] if wanted else 0
    repeated = value.shape[:1] == (1,) and size > 1
    value = _rows(value, size) if repeated else value
    if value.shape[1:] != wanted[1:] or value.ndim != len(wanted) or (wanted and len(value) != size):
        raise ShapeError(f"inputs: expected {entry.name!r} of shape {(1, *wanted[1:])} or {wanted}; got {tuple(value.shape)}")
    return Entry(name=entry.name, node=entry.node, value=value, repeated=repeated and symbolic)


def _refuse_unfit(free: Sequence[Entry], source: str) -> None:
    for entry in free:
        shape, dtype = tuple(entry.value.shape), entry.value.dtype
        if not dtype.is_floating_point or not shape:
            raise UnsupportedError(
                f"{source}: expected a batch of floating-point inputs; the model takes {dtype} of shape {shape} as"
                f" {entry.name!r}; fix it, as inputs={{{entry.name!r}: value}}"
            )
    sizes = {e.name: tuple(e.value.shape) for e in free}
    if len({shape[0] for shape in sizes.values()}) > 1:
        raise UnsupportedError(
            f"{source}: expected inputs with one batch axis in front of all; got {sizes}; fix those without, as"
            " inputs={name: value}"
        )


# -- outputs


def output_position(program: ExportedProgram, output: str | None, source: str) -> int:
    """Return the position among a program's outputs of the named one, or of the only tensor.

    An output is called by its place in what the program returns: by its keys and positions, joined by dots, or "output"
    where the program returns one tensor.
    """
    specs = [s.arg for s in program.graph_signature.output_specs if s.kind == OutputKind.USER_OUTPUT]
    shapes = {n.name: tuple(n.meta["val"].shape) for n in program.graph.nodes if isinstance(n.meta.get("val"), Tensor)}
    places = tree_flatten_with_path(tree_unflatten(list(range(len(specs))), program.call_spec.out_spec))[0]
    names = {k: words(path) for path, k in places}
    tensors = [k for k, s in enumerate(specs) if not isinstance(s, ConstantArgument) and s.name in shapes]
    known = {names[k]: shapes[specs[k].name] for k in tensors}
    chosen = chosen_output(known, output, source)
    return next(k for k, name in names.items() if name == chosen)
