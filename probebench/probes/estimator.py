"""The solver of the logistic path as a scikit-learn estimator, for one set of features."""

from __future__ import annotations

import warnings
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.extmath import softmax
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from probebench.probes.lbfgs import solve_path, strength_of
from probebench.probes.principal_axes import principal_axes

_DTYPES = {"float32": torch.float32, "float64": torch.float64}


class LogisticProbe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Standardisation followed by multinomial logistic regression, solved to its optimum.

    The objective is that of scikit-learn's ``make_pipeline(StandardScaler(), LogisticRegression(C=C))``, with s the
    sample weights times the class weights and z the standardised features::

        minimise over W, b:   sum_i s_i * log_loss(y_i, W z_i + b)  +  1 / (2 C) * ||W||^2

    The solver is `probebench.probes.lbfgs`, which the protocol ``default@2`` uses as well.

    Args:
        C: inverse regularisation strength, positive
        standardize: give features zero mean and unit variance first, both under the sample weights; constant features
            stay as they are
        class_weight: None, ``balanced``, or a dict from class to weight, as in scikit-learn
        tol: relative distance to the optimum to reach, (objective - optimum) / objective
        max_iter: most iterations; each is two products with the data
        precision: of the products: ``float32``, with float64 sums and float64 throughout where float32 cannot reach
            `tol`, or ``float64``
        device: torch device

    Attributes:
        classes_: shape (C,)
        coef_: float64, shape (C, width), or (1, width) for two classes, on the features as given
        intercept_: float64, shape (C,) or (1,)
        n_iter_: int32, shape (1,)
        gap_: relative distance to the optimum, as the solver estimates it
        n_features_in_: width
    """

    def __init__(
        self,
        C: float = 1.0,
        *,
        standardize: bool = True,
        class_weight: dict[Any, float] | str | None = None,
        tol: float = 1e-6,
        max_iter: int = 1000,
        precision: str = "float32",
        device: str = "cpu",
    ) -> None:
        self.C = C
        self.standardize = standardize
        self.class_weight = class_weight
        self.tol = tol
        self.max_iter = max_iter
        self.precision = precision
        self.device = device

    def fit(self, X: npt.ArrayLike, y: npt.ArrayLike, sample_weight: npt.ArrayLike | None = None) -> LogisticProbe:
        """Fit to X of shape (n, width) and labels y of shape (n,).

        Args:
            sample_weight: shape (n,), not negative; rows of weight zero are ignored

        Raises:
            ValueError: for invalid parameters, shapes or values, and for fewer than two classes

        Warns:
            ConvergenceWarning: if `tol` was not reached
        """
        self._check_parameters()
        features: npt.NDArray[Any]
        features, y = validate_data(self, X, y, dtype=(np.float64, np.float32))
        check_classification_targets(y)
        weight = _check_sample_weight(sample_weight, features, dtype=np.float64, ensure_non_negative=True)
        weight = weight * compute_sample_weight(self.class_weight, y)
        if not weight.any():
            raise ValueError("sample weights and class weights leave no row to fit: at least one must be positive")
        there = weight > 0
        weight = weight[there]
        self.classes_, labels = np.unique(np.asarray(y)[there], return_inverse=True)
        count = len(self.classes_)
        if count < 2:
            raise ValueError(
                f"LogisticProbe needs samples of at least 2 classes in the data, but the data has 1 class: "
                f"{self.classes_[0]!r}"
            )
        axes = principal_axes(
            [features[there]],
            standardize=self.standardize,
            weights=weight,
            device=self.device,
            dtype=_DTYPES[self.precision],
        )
        strength = strength_of(self.C, float(weight.sum()), count)
        device = axes.rows.device
        found = solve_path(
            axes.rows,
            torch.from_numpy(labels.astype(np.int64)).to(device),
            count,
            torch.tensor([[strength]], dtype=torch.float64, device=device),
            weights=torch.from_numpy(weight),
            tol=self.tol,
            max_iter=self.max_iter,
        )
        coef, intercept = (values[0, 0].cpu().numpy() for values in axes.coefficients(found.weights))
        if count == 2:
            coef, intercept = coef[1:] - coef[:1], intercept[1:] - intercept[:1]
        self.coef_, self.intercept_ = coef, intercept
        self.n_iter_ = np.array([int(found.iterations)], dtype=np.int32)
        self.gap_ = float(found.gap)
        if not self.gap_ <= self.tol:
            warnings.warn(
                f"stopped after {int(found.iterations)} iterations, about {self.gap_:.0e} from the optimum (tol is "
                f"{self.tol:.0e}): raise max_iter, lower C, or use precision='float64'",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def decision_function(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return logits, shape (n, C); for two classes those of the second, shape (n,)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.float32), reset=False)
        logits: npt.NDArray[np.float64] = X @ self.coef_.T + self.intercept_
        return logits[:, 0] if len(self.classes_) == 2 else logits

    def predict_proba(self, X: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return probabilities in the order of `classes_`, shape (n, C)."""
        logits = self.decision_function(X)
        if logits.ndim == 1:
            logits = np.column_stack([np.zeros_like(logits), logits])
        probabilities: npt.NDArray[np.float64] = softmax(logits)
        return probabilities

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return the likeliest class of each row, shape (n,); the first among equals."""
        logits = self.decision_function(X)
        best = (logits > 0).astype(int) if logits.ndim == 1 else logits.argmax(axis=1)
        predicted: npt.NDArray[Any] = self.classes_[best]
        return predicted

    def _check_parameters(self) -> None:
        for name in ("C", "tol"):
            value = getattr(self, name)
            if not (isinstance(value, Real) and 0 < float(value) < np.inf):
                raise ValueError(f"{name} must be a positive number, got {value!r}")
        if not (isinstance(self.max_iter, (int, np.integer)) and self.max_iter > 0):
            raise ValueError(f"max_iter must be a positive integer, got {self.max_iter!r}")
        if self.precision not in _DTYPES:
            raise ValueError(f"precision must be one of {', '.join(_DTYPES)}, got {self.precision!r}")
