"""LogisticProbe as a scikit-learn estimator, and against scikit-learn's own pipeline."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from probebench.probes import LogisticProbe

RNG = np.random.default_rng(0)
X = RNG.normal(size=(300, 8)) * 10.0 ** np.arange(-3, 5) + 5
LABELS = {
    "two": np.where(X[:, 0] * 1000 + RNG.normal(size=300) > 5000, "yes", "no"),
    "four": (X[:, 1] * 100 + RNG.normal(size=300) * 50 - 500).astype(int) % 4,
}


@parametrize_with_checks(
    [LogisticProbe(), LogisticProbe(precision="float64", tol=1e-12)],
    expected_failed_checks=lambda estimator: (
        {
            "check_sample_weight_equivalence_on_dense_data": "asks for probabilities to 1e-7, more than the "
            "default tol; the second estimator passes it"
        }
        if estimator.tol == 1e-6
        else {}
    ),
)
def test_scikit_learns_own_checks(estimator, check):
    check(estimator)


def theirs(standardize, **options):
    logistic = LogisticRegression(tol=1e-12, max_iter=100_000, **options)
    return make_pipeline(StandardScaler(), logistic) if standardize else make_pipeline(logistic)


@pytest.mark.parametrize("C", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("labels", LABELS)
def test_probabilities_are_those_of_the_pipeline(labels, standardize, C):
    y = LABELS[labels]
    # Without standardisation scikit-learn's solver gets nowhere on features like these.
    x = X if standardize else 2 * StandardScaler().fit_transform(X) + 0.3
    reference = theirs(standardize, C=C).fit(x, y)
    exact = LogisticProbe(C, standardize=standardize, precision="float64", tol=1e-12).fit(x, y)
    assert np.allclose(exact.predict_proba(x), reference.predict_proba(x), atol=1e-4)
    default = LogisticProbe(C, standardize=standardize).fit(x, y)
    assert np.allclose(default.predict_proba(x), reference.predict_proba(x), atol=5e-3)
    assert default.gap_ <= 1e-6
    assert exact.gap_ <= 1e-12


@pytest.mark.parametrize("weight", ["balanced", {0: 5.0, 1: 1.0, 2: 0.1, 3: 2.0}])
def test_class_weights_are_scikit_learns(weight):
    y = np.minimum(LABELS["four"], RNG.integers(0, 4, 300))  # uneven classes
    x = StandardScaler().fit_transform(X)
    reference = theirs(False, class_weight=weight).fit(x, y)
    ours = LogisticProbe(standardize=False, class_weight=weight, precision="float64", tol=1e-12).fit(x, y)
    assert np.allclose(ours.predict_proba(x), reference.predict_proba(x), atol=1e-4)
    assert not np.allclose(ours.predict_proba(x), theirs(False).fit(x, y).predict_proba(x), atol=1e-2)


@pytest.mark.parametrize("labels", LABELS)
def test_sample_weights_count_rows_in_the_standardisation_too(labels):
    times = RNG.integers(0, 4, 300)
    y = LABELS[labels]
    weighted = LogisticProbe(precision="float64", tol=1e-12).fit(X, y, sample_weight=times)
    repeated = LogisticProbe(precision="float64", tol=1e-12).fit(X.repeat(times, axis=0), y.repeat(times))
    assert np.allclose(weighted.coef_, repeated.coef_, rtol=1e-4, atol=1e-8)
    assert np.allclose(weighted.intercept_, repeated.intercept_, rtol=1e-4)


@pytest.mark.parametrize(("labels", "rows"), [("two", 1), ("four", 4)])
def test_coefficients_are_on_the_features_as_given(labels, rows):
    probe = LogisticProbe().fit(X, LABELS[labels])
    assert probe.coef_.shape == (rows, 8)
    assert probe.intercept_.shape == (rows,)
    assert np.allclose(probe.decision_function(X), (X @ probe.coef_.T + probe.intercept_).squeeze())
    assert probe.n_iter_.shape == (1,)
    assert probe.n_iter_[0] > 0
    assert np.mean(probe.predict(X) == LABELS[labels]) == probe.score(X, LABELS[labels])


def test_equally_likely_classes_go_to_the_first():
    x = np.array([[1.0], [1.0], [-1.0], [-1.0]])
    for labels in (["a", "b", "a", "b"], ["b", "a", "b", "a"]):
        assert LogisticProbe().fit(x, labels).predict([[0.0]])[0] == "a"


def test_it_works_in_a_grid_search_a_clone_and_a_pickle():
    search = GridSearchCV(LogisticProbe(), {"C": [1e-4, 1.0]}, cv=3).fit(X, LABELS["two"])
    assert search.best_params_ == {"C": 1.0}
    again = pickle.loads(pickle.dumps(clone(search.best_estimator_).fit(X, LABELS["two"])))
    assert np.array_equal(again.predict(X), search.predict(X))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"C": 0}, "C must be a positive number, got 0"),
        ({"C": "1"}, "C must be a positive number, got '1'"),
        ({"C": np.inf}, "C must be a positive number"),
        ({"tol": -1.0}, "tol must be a positive number"),
        ({"max_iter": 0}, "max_iter must be a positive integer, got 0"),
        ({"precision": "float16"}, "precision must be one of float32, float64, got 'float16'"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LogisticProbe(**options).fit(X, LABELS["two"])


def test_data_that_cannot_be_fitted_is_refused():
    with pytest.raises(ValueError, match="at least 2 classes"):
        LogisticProbe().fit(X, np.zeros(300))
    with pytest.raises(ValueError, match="at least 2 classes"):
        LogisticProbe().fit(X, LABELS["two"], sample_weight=LABELS["two"] == "yes")
    with pytest.raises(ValueError, match="at least one non-zero"):
        LogisticProbe().fit(X, LABELS["two"], sample_weight=np.zeros(300))
    with pytest.raises(ValueError, match="class weights leave no row"):
        LogisticProbe(class_weight={"yes": 0, "no": 0}).fit(X, LABELS["two"])
    with pytest.raises(ValueError, match="NaN"):
        LogisticProbe().fit(np.where(X > 5, np.nan, X), LABELS["two"])


def test_too_few_iterations_warn_with_the_distance():
    with pytest.warns(ConvergenceWarning, match="stopped after 1 iterations, .* from the optimum .*raise max_iter"):
        LogisticProbe(max_iter=1).fit(X, LABELS["four"])
