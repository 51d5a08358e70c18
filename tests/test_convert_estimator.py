"""scikit-learn's perceptrons and pipelines, against their own predictions."""

from __future__ import annotations

import subprocess
import sys
import warnings
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import (
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
)

from polylens import Argmax, Box, load, preimage
from polylens.errors import InputError, UnsupportedError

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(80, 3)) * [1.0, 10.0, 0.1] + [0.0, 5.0, -1.0]
CLASSES = np.array(["a", "b", "c"])[(X[:, 0] > 0).astype(int) + (X[:, 1] > 8)]
SEEN = RANDOM.normal(size=(50, 3)) * [2.0, 20.0, 0.3]
ROUNDING = 1e-12  # float64 sums of some tens of terms, relative


def fitted(model: Any, y: Any, x: Any = X) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a few steps make weights enough
        return model.fit(x, y)


def classifier(**options: Any) -> MLPClassifier:
    return MLPClassifier(hidden_layer_sizes=(6, 5), max_iter=60, random_state=0, **options)


def regressor(**options: Any) -> MLPRegressor:
    return MLPRegressor(hidden_layer_sizes=(6, 5), max_iter=20, random_state=0, **options)


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
def test_scores_of_a_classifier_are_what_stands_in_front_of_the_softmax(activation: str) -> None:
    model = fitted(classifier(activation=activation), CLASSES)
    net = load(model)
    scores = net(SEEN).numpy()
    assert np.allclose(softmax(scores), model.predict_proba(SEEN), atol=ROUNDING)
    assert (model.classes_[scores.argmax(1)] == model.predict(SEEN)).all()
    assert net.is_piecewise_linear == (activation in {"relu", "identity"})
    assert [gate.kind for gate in net.gates] == {"relu": ["relu"] * 2, "tanh": ["tanh"] * 2, "logistic": ["sigmoid"] * 2}.get(
        activation, []
    )


def test_probabilities_are_a_smooth_step_on_request() -> None:
    model = fitted(classifier(), CLASSES)
    net = load(model, outputs="probabilities")
    assert np.allclose(net(SEEN), model.predict_proba(SEEN), atol=ROUNDING)
    assert [node.step.kind for node in net.smooth_steps] == ["softmax"]
    two = fitted(classifier(), X[:, 0] > 0)
    assert load(two, outputs="probabilities").output_shape == (1,)
    assert np.allclose(load(two, outputs="probabilities")(SEEN)[:, 0], two.predict_proba(SEEN)[:, 1], atol=ROUNDING)


def test_with_two_classes_the_sign_of_the_only_score_tells_the_class() -> None:
    model = fitted(classifier(), CLASSES == "b")
    net = load(model)
    assert net.output_shape == (1,)
    assert ((net(SEEN)[:, 0] > 0).numpy() == model.predict(SEEN)).all()


def test_with_several_labels_every_one_has_a_score() -> None:
    labels = np.stack([X[:, 0] > 0, X[:, 1] > 5, X[:, 2] > -1], 1)
    model = fitted(classifier(), labels)
    scores = load(model)(SEEN).numpy()
    assert np.allclose(1 / (1 + np.exp(-scores)), model.predict_proba(SEEN), atol=ROUNDING)


@pytest.mark.parametrize("outputs", [1, 2])
def test_regressors_load_in_their_own_precision(outputs: int) -> None:
    y = X[:, :outputs].sum(1) if outputs == 1 else X[:, :outputs]
    model = fitted(regressor(), y)
    net = load(model)
    assert net.output_shape == (outputs,)
    assert np.allclose(net(SEEN).numpy().reshape(-1), model.predict(SEEN).reshape(-1), rtol=1e-10)
    single = fitted(regressor(), y.astype(np.float32), X.astype(np.float32))
    assert str(load(single).dtype) == "torch.float32"
    assert np.allclose(load(single)(SEEN).numpy().reshape(-1), single.predict(SEEN.astype(np.float32)).reshape(-1), rtol=1e-3)


def test_a_regressor_of_counts_ends_in_its_exponential() -> None:
    model = fitted(regressor(loss="poisson"), np.exp(X[:, 0]))
    net = load(model)
    assert np.allclose(net(X)[:, 0], model.predict(X), rtol=1e-10)
    assert [node.step.kind for node in net.smooth_steps] == ["exp"]


SCALERS = [
    StandardScaler(),
    StandardScaler(with_mean=False),
    StandardScaler(with_std=False),
    MinMaxScaler((-1, 2)),
    MinMaxScaler(clip=True),
    MaxAbsScaler(),
    RobustScaler(),
    RobustScaler(with_centering=False, quantile_range=(10, 90)),
    PCA(2, whiten=True),
    "passthrough",
]


@pytest.mark.parametrize("scaler", SCALERS, ids=str)
def test_scalers_in_front_are_part_of_the_network(scaler: Any) -> None:
    for model, y in ((classifier(), CLASSES), (regressor(), X[:, 1])):
        pipeline = fitted(Pipeline([("scale", scaler), ("model", model)]), y)
        net = load(pipeline)
        assert net.input_shape == (3,)
        if model.__class__ is MLPRegressor:
            assert np.allclose(net(SEEN)[:, 0], pipeline.predict(SEEN), rtol=1e-9)
        else:
            assert np.allclose(softmax(net(SEEN).numpy()), pipeline.predict_proba(SEEN), atol=1e-10)
        clips = getattr(scaler, "clip", False)
        assert net.num_units == 11 + 3 * clips


def test_several_scalers_and_pipelines_in_pipelines_load() -> None:
    inner = make_pipeline(RobustScaler(), MinMaxScaler((-1, 1)))
    pipeline = fitted(make_pipeline(StandardScaler(), inner, "passthrough", regressor()), X[:, 0])
    net = load(pipeline)
    assert np.allclose(net(SEEN)[:, 0], pipeline.predict(SEEN), rtol=1e-9)
    assert [node.name for node in net.nodes][:3] == ["standardscaler", "pipeline.robustscaler", "pipeline.minmaxscaler"]


def test_a_pipeline_can_be_asked_for_the_inputs_of_a_class() -> None:
    pipeline = fitted(make_pipeline(StandardScaler(), classifier()), CLASSES)
    found = preimage(load(pipeline), Argmax(1), Box([-3.0, -30.0, -1.3], [3.0, 30.0, -0.7]))
    inside = found.sample(40, seed=0).numpy()
    assert (pipeline.predict(inside) == "b").all()


@pytest.mark.parametrize("step", [Normalizer(), PowerTransformer()])
def test_steps_that_are_not_affine_are_refused_by_name(step: Any) -> None:
    pipeline = fitted(Pipeline([("first", StandardScaler()), ("odd", step), ("model", regressor())]), X[:, 0])
    with pytest.raises(UnsupportedError, match=rf"{type(step).__name__} \('odd' in the pipeline\).*StandardScaler"):
        load(pipeline)


def test_what_is_no_fitted_perceptron_is_named() -> None:
    with pytest.raises(InputError, match=r"MLPClassifier: expected a fitted estimator; call fit\(X, y\) first"):
        load(classifier())
    with pytest.raises(UnsupportedError, match="LogisticRegression: expected a fitted MLPClassifier"):
        load(fitted(LogisticRegression(), CLASSES, X / X.std(0)))
    with pytest.raises(InputError, match=r"one of \['scores', 'probabilities'\]; got 'labels'"):
        load(fitted(classifier(), CLASSES), outputs="labels")
    with pytest.raises(InputError, match="a regressor has one output"):
        load(fitted(regressor(), X[:, 0]), outputs="scores")
    with pytest.raises(InputError, match="example: belongs to modules"):
        load(fitted(regressor(), X[:, 0]), X)


def test_an_unfitted_scaler_is_named() -> None:
    model = fitted(regressor(), X[:, 0])
    with pytest.raises(InputError, match=r"StandardScaler .*expected a fitted"):
        load(Pipeline([("scale", StandardScaler()), ("model", model)]))


def test_loading_a_module_does_not_import_scikit_learn() -> None:
    code = "import sys, torch, polylens; polylens.load(torch.nn.Linear(2, 2)); print('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
