"""The scikit-learn door: fitted multilayer perceptrons, and pipelines of scalers in front of one.

What was fitted is read from the estimator's public attributes. scikit-learn is not imported here: whoever holds an estimator
has imported it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ConversionError, InputError, UnsupportedError
from ..gates import relu
from ..network import Network
from ._builder import Builder
from ._program import Live

_PERCEPTRONS = ("MLPClassifier", "MLPRegressor")
_HIDDEN: dict[str, Callable[[Builder, Live], Live]] = {
    "identity": lambda b, x: x,
    "relu": lambda b, x: b.gate(x, relu()),
    "tanh": lambda b, x: b.activation("tanh", torch.tanh, x),
    "logistic": lambda b, x: b.activation("sigmoid", torch.sigmoid, x),
}
_OUTPUTS = ("scores", "probabilities")
_AGREEMENT = {np.dtype(np.float32): 1e-4, np.dtype(np.float64): 1e-9}  # relative: sums of the same numbers in another order


def is_estimator(source: object) -> bool:
    """Say whether something is an estimator of scikit-learn, or derived from one."""
    return any(kind.__module__.split(".")[0] == "sklearn" for kind in type(source).__mro__)


def from_estimator(estimator: Any, output: str | None = None) -> Network:
    """Return the network of a fitted `MLPClassifier` or `MLPRegressor`, or of a `Pipeline` that ends in one.

    Args:
        estimator: fitted on dense numbers. Steps of a pipeline in front may be `StandardScaler`, `MinMaxScaler` (a clipping
            one gives a gate), `MaxAbsScaler`, `RobustScaler`, `PCA`, and "passthrough".
        output: for classifiers, "scores" (when None) are what stands in front of the softmax, or of the logistic function
            where there are two classes or several labels: the network stays piecewise linear with relu, the largest score,
            or the sign of the only one, tells the class, in the order of `classes_`. "probabilities" are `predict_proba`,
            with two classes that of the second one alone, by a smooth step. A regressor gives what it predicts, which
            ends in an exponential function where it was fitted with the loss "poisson".

    Raises:
        InputError: not fitted, or an output that it does not have.
        UnsupportedError: a step that is not affine, or another estimator; the message names it.
        ConversionError: the network's outputs differ from the estimator's.
    """
    *front, (name, model) = _steps(estimator) or [("", estimator)]
    if not any(kind.__name__ in _PERCEPTRONS for kind in type(model).__mro__):
        raise UnsupportedError(
            f"{type(model).__name__}: expected a fitted MLPClassifier or MLPRegressor, or a Pipeline that ends in one; for a"
            " search pass its best_estimator_"
        )
    if not hasattr(model, "coefs_"):
        raise InputError(f"{type(model).__name__}: expected a fitted estimator; call fit(X, y) first")
    classifier = hasattr(model, "classes_")
    if output is not None and not (classifier and output in _OUTPUTS):
        known = f"one of {list(_OUTPUTS)}" if classifier else "none, because a regressor has one output"
        raise InputError(f"outputs: expected {known}; got {output!r}")
    with torch.device("cpu"):
        net = _network(front, name, model, probabilities=output == "probabilities", source=type(estimator).__name__)
    _verify(net, estimator, model, output)
    return net


def _steps(estimator: Any) -> list[tuple[str, Any]]:
    """Return the named steps of a pipeline, with those of pipelines in it, or the only estimator."""
    if not any(kind.__name__ == "Pipeline" for kind in type(estimator).__mro__):
        return [("", estimator)]
    found = []
    for name, step in estimator.steps:
        inner = [] if step is None or isinstance(step, str) else _steps(step)
        found += [(".".join(part for part in (name, within) if part), model) for within, model in inner]
    return found


def _network(front: Sequence[tuple[str, Any]], name: str, model: Any, *, probabilities: bool, source: str) -> Network:
    size = front[0][1].n_features_in_ if front and hasattr(front[0][1], "n_features_in_") else len(model.coefs_[0])
    builder = Builder((int(size),))
    x = Live(0, builder.input_shape)
    for title, step in front:
        kind = next((k.__name__ for k in type(step).__mro__ if k.__name__ in _FRONT), None)
        if kind is None:
            raise UnsupportedError(
                f"{type(step).__name__} ({title!r} in the pipeline): expected one of {sorted(_FRONT)}, which are affine;"
                " transform the inputs first, and load the rest of the pipeline"
            )
        if not any(name.endswith("_") and not name.startswith("_") for name in vars(step)):
            raise InputError(
                f"{kind} ({title!r} in the pipeline): expected a fitted step; call fit(X, y) of the pipeline first"
            )
        builder.begin(title, f"{kind} {title!r}")
        x = _FRONT[kind](builder, x, step)
    x = _perceptron(builder, x, name, model)
    if probabilities:
        builder.begin("probabilities", "the output")
        soft = model.out_activation_ == "softmax"
        x = builder.softmax(x, -1) if soft else builder.activation("sigmoid", torch.sigmoid, x)
    if model.out_activation_ == "exp":  # regressors with the loss of Poisson
        builder.begin("exp", "the output")
        x = builder.elementwise("exp", torch.exp, x)
    return builder.finish(x, torch.float32 if model.coefs_[0].dtype == np.float32 else torch.float64, source)


def _perceptron(builder: Builder, x: Live, name: str, model: Any) -> Live:
    last = len(model.coefs_)
    for i, (weight, bias) in enumerate(zip(model.coefs_, model.intercepts_, strict=True), 1):
        prefix = f"{name}." if name else ""
        builder.begin(f"{prefix}linear{i}", f"layer {i}")
        x = builder.linear(x, _tensor(weight.T), _tensor(bias))
        if i < last:
            builder.begin(f"{prefix}{model.activation}{i}", f"activation {i}")
            x = _HIDDEN[model.activation](builder, x)
    return x


def _tensor(values: Any) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float64))


# -- what may stand in front


def _affine(builder: Builder, x: Live, shift: Any, scale: Any) -> Live:
    """(x - shift) / scale, where either may be None, in one step."""
    factor = None if scale is None else 1 / _tensor(scale)
    offset = None if shift is None else -_tensor(shift) * (1.0 if factor is None else factor)
    return x if factor is None and offset is None else builder.scale(x, factor, offset)


def _standard(builder: Builder, x: Live, step: Any) -> Live:
    return _affine(builder, x, step.mean_ if step.with_mean else None, step.scale_ if step.with_std else None)


def _robust(builder: Builder, x: Live, step: Any) -> Live:
    return _affine(builder, x, step.center_ if step.with_centering else None, step.scale_ if step.with_scaling else None)


def _max_abs(builder: Builder, x: Live, step: Any) -> Live:
    y = _affine(builder, x, None, step.scale_)
    return builder.clamp(y, -1.0, 1.0) if getattr(step, "clip", False) else y


def _min_max(builder: Builder, x: Live, step: Any) -> Live:
    y = builder.scale(x, _tensor(step.scale_), _tensor(step.min_))
    low, high = step.feature_range
    return builder.clamp(y, float(low), float(high)) if step.clip else y


def _components(builder: Builder, x: Live, step: Any) -> Live:
    weight = _tensor(step.components_)
    if step.whiten:
        weight = weight / _tensor(step.explained_variance_).sqrt().clamp(min=torch.finfo(torch.float64).eps)[:, None]
    return builder.linear(x, weight, -weight @ _tensor(step.mean_))


_FRONT: dict[str, Callable[[Builder, Live, Any], Live]] = {
    "StandardScaler": _standard,
    "MinMaxScaler": _min_max,
    "MaxAbsScaler": _max_abs,
    "RobustScaler": _robust,
    "PCA": _components,
}


# -- the check


def _verify(net: Network, estimator: Any, model: Any, output: str | None) -> None:
    """Compare the network with the estimator at inputs that its scalers spread."""
    x = np.random.default_rng(0).normal(scale=3.0, size=(16, *net.input_shape))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about the names of columns that it was fitted with
        want, got = _both(net, estimator, model, output, x)
    error, scale = float(np.abs(want - got).max()), max(1e-30, float(np.abs(want).max()))
    if not error <= _AGREEMENT[np.dtype(model.coefs_[0].dtype)] * scale:
        raise ConversionError(
            f"{net.source}: the network differs from the estimator by {error:.3g} where outputs reach {scale:.3g}; please"
            " report it"
        )


def _both(net: Network, estimator: Any, model: Any, output: str | None, x: Any) -> tuple[Any, Any]:
    """Return what the estimator and the network say of some inputs: numbers, or probabilities."""
    if not hasattr(model, "classes_"):
        return np.asarray(estimator.predict(x)).reshape(len(x), -1), net(x).numpy()
    got = net(x) if output == "probabilities" else _probabilities(net(x), model)
    want = np.asarray(estimator.predict_proba(x))
    return want[:, 1:] if net.output_shape == (1,) else want, got.numpy()


def _probabilities(scores: Tensor, model: Any) -> Tensor:
    return scores.softmax(-1) if model.out_activation_ == "softmax" else scores.sigmoid()
