"""An independent solution of multinomial logistic regression: dense damped Newton steps in float64 numpy."""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve


def objective(x, labels, share, strength, coef, intercept):
    """Weighted mean cross-entropy plus strength / 2 times the squared norm of coef (C, d)."""
    logits = x @ coef.T + intercept
    loss = np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(x)), labels]
    return share @ loss + 0.5 * strength * np.square(coef).sum()


def newton(x, labels, classes, strength, share=None, steps=300):
    """Coefficients (C, d), intercepts (C,) and the objective at the optimum.

    Args:
        x: (n, d); labels: (n,) in 0 .. classes - 1; strength: positive; share: (n,), sums to one
    """
    n, d = x.shape
    share = np.full(n, 1 / n) if share is None else share
    z = np.column_stack([np.ones(n), x])
    squares = (z[:, :, None] * z[:, None, :]).reshape(n, -1)
    onehot = np.eye(classes)[labels]
    ridge = np.full(d + 1, strength)
    ridge[0] = 0
    w = np.zeros((classes, d + 1))
    # Only differences of intercepts matter: this pins their sum without moving the optimum, and makes the Hessian
    # positive definite.
    pin = np.kron(np.ones((classes, classes)), np.diag(np.arange(d + 1) == 0))

    def value(w):
        return objective(x, labels, share, strength, w[:, 1:], w[:, 0])

    f = value(w)
    for _ in range(steps):
        logits = z @ w.T
        p = np.exp(logits - np.logaddexp.reduce(logits, axis=1, keepdims=True))
        gradient = ((p - onehot) * share[:, None]).T @ z + ridge * w
        # Sums over rows of p_c z_i p_k z_j, and for each class of p_c z_i z_j: as products of matrices.
        outer = ((p * np.sqrt(share)[:, None])[:, :, None] * z[:, None, :]).reshape(n, -1)
        own = ((p * share[:, None]).T @ squares).reshape(classes, d + 1, d + 1)
        hessian = pin - outer.T @ outer
        for c in range(classes):
            block = slice(c * (d + 1), (c + 1) * (d + 1))
            hessian[block, block] += own[c] + np.diag(ridge)
        step = solve(hessian, gradient.ravel(), assume_a="pos").reshape(w.shape)
        decrease = float(np.sum(gradient * step))
        t = 1.0
        while value(w - t * step) > f - 0.25 * t * decrease and t > 1e-10:
            t /= 2
        new = value(w - t * step)
        if not new < f or decrease < 1e-13 * f:
            break
        w, f = w - t * step, new
    return w[:, 1:], w[:, 0], f
