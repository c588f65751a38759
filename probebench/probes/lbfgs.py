"""Multinomial logistic regression for many taps and many regularisation strengths at once, to its optimum.

The problem of one tap and one strength, with rows z_i (a one for the intercept, then the principal axes of the
standardised features, see `probebench.probes.principal_axes`), labels y_i, row weights s_i that sum to one and C
classes::

    minimise over W (C x D):   sum_i s_i * (logsumexp_c(W z_i) - (W z_i)[y_i])  +  lambda / 2 * ||W without column 0||^2

It is convex with one optimum up to a constant over classes, which the solver keeps at zero sum. Labels of which a row
may have several (`solve_labels`) are problems of two classes each, solved side by side on the same rows.

Method: L-BFGS (Nocedal and Wright, *Numerical Optimization*, 2nd edition, algorithm 7.5) whose initial inverse Hessian
is the exact Hessian's diagonal blocks, one per class: in full over the intercept and the leading axes, diagonal on the
rest. Logits are linear in the step, so the line search needs no further product with the data. Strengths run from
strong to weak in groups; each group starts from the extrapolated path of the one before. Where float32 products get no
further, or where the estimated distance to the optimum cannot be relied on, Newton steps in float64 finish
(Nocedal and Wright, algorithm 7.1: conjugate gradients on the exact Hessian, preconditioned by itself if it is small).
On large data they take over early where regularisation is weak: there most rows are certain of their class and have no
part in the Hessian, so that its products need the few others only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

MEMORY = 10
"""Pairs of steps and gradient differences that L-BFGS keeps."""

PATIENCE = 20
"""Iterations without progress after which L-BFGS is given up."""

PAIRS = 1 << 19
"""Most products of leading coordinates held at once while Hessian blocks are built."""

DIRECT = 5
"""With fewer columns than leading axes over this, Hessian blocks are products of scaled rows, not of pairs of axes."""

DOUBLES = 1 << 20
"""Most values of rows held in float64 at once."""


UNCERTAIN_BLOCKS = 1 << 20
"""Most values of the Hessian blocks of Newton steps on large data."""

LABELS = 25
"""Most labels that `solve_labels` solves at once: they make fifty columns of a product, as in `default_group`."""

LARGE = 1 << 21
"""Values of rows from which on Newton steps leave out certain rows, and take over from L-BFGS after `EARLY`."""

EARLY = 40
"""Iterations of L-BFGS on large data. Where these do not suffice, Newton steps cost less."""


@dataclass(frozen=True)
class Solution:
    """Optima of a batch of problems.

    Attributes:
        weights: float64, shape (taps, strengths, classes, axes), column 0 the intercept; sums to zero over classes
        gap: float64, shape (taps, strengths), estimate of (objective - optimum) / objective
        iterations: int64, shape (taps, strengths), conjugate gradients included; each is two products with the data
        newton: bool, shape (taps, strengths), whether Newton steps in float64 were needed
    """

    weights: torch.Tensor
    gap: torch.Tensor
    iterations: torch.Tensor
    newton: torch.Tensor


def leading_axes(axes: int) -> int:
    """The number of leading axes that get full Hessian blocks: building them costs about as much as four iterations."""
    return min(axes, max(16, int(0.5 + math.sqrt(8 * axes))))


Strength = TypeVar("Strength", float, npt.NDArray[np.float64])


def strength_of(C: Strength, total: float, classes: int) -> Strength:
    """Return the lambda of the problem that is scikit-learn's at C.

    Args:
        total: sum of the row weights, which is the number of rows if they are not weighted
    """
    # For two classes scikit-learn penalises the difference of their weights, which is twice as long as each.
    return (2 if classes == 2 else 1) / (C * total)


def default_group(classes: int) -> int:
    """The number of strengths that are solved at once: as many as make fifty columns of a product, at most five."""
    return max(1, min(5, 50 // classes))


def solve_path(
    rows: torch.Tensor,
    labels: torch.Tensor,
    classes: int,
    strengths: torch.Tensor,
    *,
    weights: torch.Tensor | None = None,
    start: torch.Tensor | None = None,
    tol: float = 1e-6,
    max_iter: int = 1000,
    group: int | None = None,
    chunk: int = 8192,
    verify: bool = True,
) -> Solution:
    """Solve all strengths of all taps of a batch.

    Args:
        rows: float32 or float64, shape (taps, n, axes); column 0 is one, columns are in order of falling variance
        labels: int64, shape (n,), in 0 .. classes - 1, each class present
        strengths: float64, shape (taps, strengths), lambda, falling along each row
        weights: float64, shape (n,), positive; uniform by default
        start: float64, shape (taps, 1, classes, axes), where the first group starts
        tol: relative gap to stop at
        max_iter: most iterations per problem; of Newton steps as many again, where L-BFGS did not use all
        group: strengths solved at once, see `default_group`
        chunk: rows per product; sums over chunks are float64
        verify: whether a gap must be certain to be within `tol`; otherwise the estimate of L-BFGS decides, which has
            been seen up to seven times too small

    Raises:
        ValueError: if a class has no row; its intercept would fall without end
    """
    taps, _, axes = rows.shape
    count = strengths.shape[1]
    share = None if weights is None else (weights.double() / weights.sum()).to(rows.device)
    problem = _Problem(rows, labels, classes, share, chunk)
    prior = torch.bincount(labels, weights=share, minlength=classes).double()
    if not bool((prior > 0).all()):
        raise ValueError(f"class {int(prior.argmin())} of {classes} has no row: renumber the classes that are there")
    prior = (prior / prior.sum()).log()
    null = float(-(prior.exp() * prior).sum())
    path = torch.zeros(taps, count, classes, axes, dtype=torch.float64, device=rows.device)
    gap = torch.zeros(taps, count, dtype=torch.float64, device=rows.device)
    iterations = torch.zeros(taps, count, dtype=torch.int64, device=rows.device)
    newton = torch.zeros(taps, count, dtype=torch.bool, device=rows.device)
    group = group or default_group(classes)
    for first in range(0, count, group):
        part = slice(first, min(first + group, count))
        size = part.stop - part.start
        if first == 0:
            begin = path[:, :size].clone()
            if start is None:
                begin[..., 0] = prior - prior.mean()
            else:
                begin += start
        else:
            begin = path[:, first - 1 : first].repeat(1, size, 1, 1)
            if first > 1:
                # The path is smooth in log(lambda); further than one step ahead extrapolation is worse than none.
                begin += path[:, first - 1 : first] - path[:, first - 2 : first - 1]
        path[:, part], gap[:, part], iterations[:, part], sure = _solve(
            problem, begin, strengths[:, part], torch.full_like(gap[:, part], null), tol, max_iter, verify
        )
        for tap, j in torch.nonzero(~sure & (iterations[:, part] < max_iter)).tolist():
            at = tap, first + j
            alone = problem.alone(tap)
            begin = path[at][None]
            if problem.large and first + j > 1:
                before, last = path[tap, first + j - 2], path[tap, first + j - 1]
                begin = torch.stack([path[at], 2 * last - before])
            better = _newton(alone, begin, float(strengths[at]), tol, max_iter)
            path[at], gap[at] = better[0], better[1]
            iterations[at] += better[2]
            newton[at] = True
    return Solution(path, gap, iterations, newton)


def solve_labels(
    rows: torch.Tensor,
    labels: torch.Tensor,
    strengths: torch.Tensor,
    *,
    start: torch.Tensor | None = None,
    tol: float = 1e-6,
    max_iter: int = 1000,
    chunk: int = 8192,
    verify: bool = True,
) -> Solution:
    """Solve a problem of two classes for each of several labels: a row has the label, or has it not.

    Args:
        rows: as of `solve_path`
        labels: int8, shape (n, labels): 1 for rows that have the label, 0 for rows that have it not, -1 for rows of
            which it is not known, which have no part in that label's problem
        strengths: float64, shape (taps,), inverse strengths C in scikit-learn's convention, the same for all labels
        start: float64, shape (taps, labels, axes), where to start
        tol, max_iter, chunk, verify: as of `solve_path`

    Returns:
        the solution with one logit a label: weights of shape (taps, 1, labels, axes); `Solution.gap`, `iterations` and
        `newton` of shape (taps, labels). A label that all rows have, or none, has a logit of zero
    """
    taps, _, axes = rows.shape
    count, device = labels.shape[1], rows.device
    weights = torch.zeros(taps, count, axes, dtype=torch.float64, device=device)
    gap = torch.zeros(taps, count, dtype=torch.float64, device=device)
    iterations = torch.zeros(taps, count, dtype=torch.int64, device=device)
    newton = torch.zeros(taps, count, dtype=torch.bool, device=device)
    present, known = (labels == 1).sum(dim=0), (labels >= 0).sum(dim=0)
    varied = torch.nonzero((present > 0) & (present < known)).flatten()
    for first in range(0, len(varied), LABELS):
        part = varied[first : first + LABELS]
        own = labels[:, part].T.to(device)
        total = known[part].double().to(device)
        share = None if bool((own >= 0).all()) else (own >= 0).double() / total[:, None]
        problem = _Problem(rows, (own == 1).long(), 2, share, chunk)
        having = present[part].to(device)
        prior = torch.stack([total - having, having], dim=1).div_(total[:, None]).log()
        null = -(prior.exp() * prior).sum(dim=1).expand(taps, -1)
        begin = torch.zeros(taps, len(part), 2, axes, dtype=torch.float64, device=device)
        if start is None:
            begin[..., 0] = prior - prior.mean(dim=1, keepdim=True)
        else:
            begin[:, :, 1] = start[:, part.to(device)] / 2
            begin[:, :, 0] = -begin[:, :, 1]
        lambdas = 2 / (strengths.to(device)[:, None] * total)
        found, gaps, counts, sure = _solve(problem, begin, lambdas, null, tol, max_iter, verify)
        for tap, j in torch.nonzero(~sure & (counts < max_iter)).tolist():
            better = _newton(problem.alone(tap, j), found[tap, j][None], float(lambdas[tap, j]), tol, max_iter)
            found[tap, j], gaps[tap, j] = better[0], better[1]
            counts[tap, j] += better[2]
            newton[tap, part[j]] = True
        weights[:, part] = found[:, :, 1] - found[:, :, 0]
        gap[:, part], iterations[:, part] = gaps, counts
    return Solution(weights[:, None], gap, iterations, newton)


class _Problem:
    """The data of a batch and the products with it. `labels` and `share` are of shape (n,), or (columns, n) with a
    row for each column of the batch."""

    def __init__(
        self,
        rows: torch.Tensor,
        labels: torch.Tensor,
        classes: int,
        share: torch.Tensor | None,
        chunk: int,
    ) -> None:
        self.rows, self.classes = rows, classes
        self.dtype = rows.dtype
        self.by_column = labels.ndim == 2
        # With an axis for the classes between columns and rows, as logits have.
        self.labels = labels.unsqueeze(-2)
        self.share = share if share is None else share.to(rows.dtype).unsqueeze(-2)
        self.n = rows.shape[1]
        self.chunk = chunk
        self.chunks = [slice(i, min(i + chunk, self.n)) for i in range(0, self.n, chunk)]
        self.lead = leading_axes(rows.shape[2])
        self.tiny = self.n * classes * rows.shape[2] < 1 << 17
        self.large = self.n * rows.shape[2] >= LARGE
        self.pairs = torch.triu_indices(self.lead, self.lead, device=rows.device)

    def take(self, taps: torch.Tensor) -> _Problem:
        """The same for some of the taps."""
        problem = object.__new__(_Problem)
        problem.__dict__.update(self.__dict__)
        problem.rows = self.rows[taps]
        return problem

    def take_columns(self, columns: torch.Tensor) -> _Problem:
        """The same for some of the columns, which have labels of their own."""
        problem = object.__new__(_Problem)
        problem.__dict__.update(self.__dict__)
        problem.labels = self.labels[columns]
        problem.share = None if self.share is None else self.share[columns]
        return problem

    def alone(self, tap: int, column: int = 0) -> _Problem:
        """One of the taps and, if columns have labels of their own, one of the columns, with products in float64."""
        problem = object.__new__(_Problem)
        if self.by_column:
            self = self.take_columns(torch.tensor([column], device=self.rows.device))
        problem.__dict__.update(self.__dict__)
        problem.rows = self.rows[tap : tap + 1]  # not a copy, as `take` makes
        problem.dtype = torch.float64
        # Rows are brought into float64 a chunk at a time, and a copy of all of them would be the most memory taken.
        step = max(256, DOUBLES // self.rows.shape[2])
        problem.chunks = [slice(i, min(i + step, self.n)) for i in range(0, self.n, step)]
        problem.share = None if self.share is None else self.share.double()
        return problem

    def logits(self, w: torch.Tensor) -> torch.Tensor:
        """(taps, strengths, classes, n) in the dtype of the products."""
        taps, count, classes, axes = w.shape
        flat = w.to(self.dtype).reshape(taps, count * classes, axes)
        if self.dtype == self.rows.dtype:
            out = flat @ self.rows.transpose(1, 2)
        else:
            out = torch.cat([flat @ self.rows[:, part].to(self.dtype).transpose(1, 2) for part in self.chunks], dim=2)
        return out.view(taps, count, classes, self.n)

    def probabilities(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Softmax over classes, in place of `logits`, and the mean cross-entropy, float64 (taps, strengths)."""
        own = logits.gather(2, self.labels.expand(*logits.shape[:2], 1, self.n)).squeeze(2)
        top = logits.amax(dim=2)
        logits.sub_(top.unsqueeze(2)).exp_()
        total = logits.sum(dim=2)
        logits.div_(total.unsqueeze(2))
        losses = total.log_().add_(top.sub_(own))
        if self.share is None:
            return logits, losses.sum(dim=2, dtype=torch.float64) / self.n
        return logits, (losses * self.share.squeeze(-2)).sum(dim=2, dtype=torch.float64)

    def residuals(self, probabilities: torch.Tensor) -> torch.Tensor:
        """Probability less truth, times the row's weight if rows are weighted; in place of `probabilities`."""
        index = self.labels.expand(*probabilities.shape[:2], 1, self.n)
        probabilities.scatter_add_(2, index, probabilities.new_full((1,), -1.0).expand(index.shape))
        return probabilities if self.share is None else probabilities.mul_(self.share)

    def gradient(self, residuals: torch.Tensor) -> torch.Tensor:
        """The gradient of the loss: float64, (taps, strengths, classes, axes)."""
        taps, count, classes, _ = residuals.shape
        flat = residuals.view(taps, count * classes, self.n)
        out: torch.Tensor | None = None
        for part in self.chunks:
            product = (flat[..., part] @ self.rows[:, part].to(self.dtype)).double()
            out = product if out is None else out.add_(product)
        assert out is not None
        if self.share is None:
            out /= self.n
        return out.view(taps, count, classes, -1)

    def curvature(self, probabilities: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Diagonal blocks of the loss's Hessian, one per class.

        Returns:
            over the leading axes, float64 (taps, strengths, classes, lead, lead), and the diagonal of the rest,
            (taps, strengths, classes, axes - lead)
        """
        taps, count, classes, _ = probabilities.shape
        columns = count * classes
        row, column = self.pairs
        direct = DIRECT * columns < self.lead
        size = columns * self.lead if direct else len(row)
        step = max(256, min(self.chunk, PAIRS // size))
        blocks = tail = None
        for first in range(0, self.n, step):
            part = slice(first, min(first + step, self.n))
            p = probabilities[..., part].float()
            w = p * (1 - p)
            if self.share is not None:
                w *= self.share[..., part].float()
            w = w.reshape(taps, columns, -1)
            z = self.rows[:, part].float()
            lead = z[..., : self.lead].transpose(1, 2)
            if direct:
                b = (lead[:, None] * w[:, :, None]).matmul(z[:, None, :, : self.lead]).double()
            else:
                lead = lead.contiguous()
                b = (w @ (lead.index_select(1, row) * lead.index_select(1, column)).transpose(1, 2)).double()
            t = (w @ z[..., self.lead :].square()).double()
            blocks = b if blocks is None else blocks.add_(b)
            tail = t if tail is None else tail.add_(t)
        assert blocks is not None
        assert tail is not None
        if self.share is None:
            blocks, tail = blocks.div_(self.n), tail.div_(self.n)
        if direct:
            full = blocks
        else:
            full = blocks.new_empty(taps, columns, self.lead, self.lead)
            full[..., row, column] = blocks
            full[..., column, row] = blocks
        return full.view(taps, count, classes, self.lead, self.lead), tail.view(taps, count, classes, -1)


class _Preconditioner:
    """The initial inverse Hessian of L-BFGS."""

    def __init__(self, blocks: torch.Tensor, tail: torch.Tensor, strengths: torch.Tensor) -> None:
        lead = blocks.shape[-1]
        ridge = strengths[..., None, None].expand(*blocks.shape[:-1]).clone()
        ridge[..., 0] = 0  # the intercept
        # A class without uncertain rows has no curvature of its own along the intercept.
        diagonal = blocks.diagonal(dim1=-2, dim2=-1)
        ridge += 1e-7 * diagonal.amax(dim=-1, keepdim=True) + 1e-12
        self._lead = lead
        self._inverse = torch.cholesky_inverse(torch.linalg.cholesky(blocks + torch.diag_embed(ridge)))
        self._tail = 1 / (tail + strengths[..., None, None])

    @property
    def shape(self) -> tuple[int, int]:
        """Classes and axes."""
        return self._tail.shape[2], self._lead + self._tail.shape[3]

    def __call__(self, g: torch.Tensor) -> torch.Tensor:
        lead = (self._inverse @ g[..., : self._lead, None]).squeeze(-1)
        out = torch.cat([lead, g[..., self._lead :] * self._tail], dim=-1)
        return out - out.mean(dim=-2, keepdim=True)

    def take(self, taps: torch.Tensor, strengths: torch.Tensor) -> _Preconditioner:
        part = object.__new__(_Preconditioner)
        part._lead = self._lead
        part._inverse, part._tail = self._inverse[taps][:, strengths], self._tail[taps][:, strengths]
        return part


class _FullHessian:
    """The inverse of one problem's whole Hessian, for problems that are small."""

    LARGEST = 1024
    """Most weights."""

    def __init__(self, problem: _Problem, probabilities: torch.Tensor, strength: float) -> None:
        _, _, classes, n = probabilities.shape
        axes = problem.rows.shape[2]
        hessian = probabilities.new_zeros(classes * axes, classes * axes)
        own = probabilities.new_zeros(classes, axes, axes)
        step = max(256, PAIRS // (classes * axes))
        for first in range(0, n, step):
            part = slice(first, min(first + step, n))
            z, p = problem.rows[0, part].double(), probabilities[0, 0, :, part]
            share = 1 / n if problem.share is None else problem.share.flatten()[part, None]
            each = (p.T[:, :, None] * z[:, None, :]).reshape(len(z), -1)
            hessian -= each.T @ (each * share)
            own += torch.einsum("cn,ni,nj->cij", p, z * share, z)
        view = hessian.view(classes, axes, classes, axes)
        index = torch.arange(classes, device=hessian.device)
        view[index, :, index] += own
        # Only differences of intercepts matter: this settles their sum.
        view[:, 0, :, 0] += own[:, 0, 0].mean()
        ridge = hessian.new_full((classes, axes), strength)
        ridge[:, 0] = 0
        diagonal = hessian.diagonal()
        diagonal += ridge.flatten() + 1e-14 * diagonal.amax() + 1e-300
        factor, failed = torch.linalg.cholesky_ex(hessian)
        while failed:
            # Rounding errors have made it indefinite.
            diagonal += 1e-12 * diagonal.amax()
            factor, failed = torch.linalg.cholesky_ex(hessian)
        self._factor = factor

    def __call__(self, g: torch.Tensor) -> torch.Tensor:
        out = torch.cholesky_solve(g.reshape(-1, 1), self._factor).view(g.shape)
        return out - out.mean(dim=-2, keepdim=True)


class _Uncertain:
    """Products with one problem's Hessian in float32, over the rows that are not certain of their class.

    A row z whose largest probability is 1 - m adds at most 2 m z z' to the Hessian. With m below lambda it adds less
    than the penalty along an axis of unit variance. A Hessian without such rows is the smaller one: steps are rather
    too long, which the line search sees, and the decrease that they promise is rather too large. Intercepts have no
    penalty; along them nothing is left out.
    """

    CERTAIN = 1e-4
    """A row whose largest probability is further from one is uncertain in any case."""

    def __init__(self, problem: _Problem, probabilities: torch.Tensor, strength: float) -> None:
        p = probabilities[0, 0]
        uncertain = 1 - p.amax(dim=0) > min(strength, self.CERTAIN)
        chosen = torch.nonzero(uncertain).flatten()
        every = len(chosen) > 0.9 * problem.n
        rows = problem.rows[0]
        self._rows = rows.float() if every else rows[chosen].float()
        self._p = (p if every else p[:, chosen]).float().contiguous()
        weights = None if problem.share is None else problem.share.flatten()
        share = weights if weights is None or every else weights[chosen]
        self._share = torch.full((1,), 1 / problem.n, device=p.device) if share is None else share.float()
        left_out = torch.nonzero(~uncertain).flatten()[: 0 if every else None]
        q = p[:, left_out]
        weighted = q / problem.n if weights is None else q * weights[left_out]
        self._intercepts = torch.diag(weighted.sum(dim=1)) - weighted @ q.T

    def __call__(self, v: torch.Tensor) -> torch.Tensor:
        """The Hessian of the loss times weights: float64, (1, 1, classes, axes)."""
        u = (v[0, 0].float() @ self._rows.T).mul_(self._p)
        u.sub_(self._p * u.sum(dim=0)).mul_(self._share)
        out = (u @ self._rows).double()
        out[:, 0] += self._intercepts @ v[0, 0, :, 0]
        return out[None, None]

    def curvature(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Like `_Problem.curvature`, over more leading axes: here they are cheap."""
        classes, axes = len(self._p), self._rows.shape[1]
        lead = min(axes, 256, math.isqrt(UNCERTAIN_BLOCKS // classes))
        w = self._p * (1 - self._p) * self._share
        front = self._rows[:, :lead]
        blocks = torch.stack([(front * each[:, None]).T @ front for each in w]).double()
        blocks[:, 0, 0] += self._intercepts.diagonal()
        tail = (w @ self._rows[:, lead:].square()).double()
        return blocks[None, None], tail[None, None]


class _History:
    """The last steps and gradient differences, and the inverse Hessian that they make of a preconditioner.

    In the compact form (Byrd, Nocedal and Schnabel 1994, theorem 2.2), which is a few batched products where the
    two-loop recursion is a hundred small operations.
    """

    def __init__(self, s: torch.Tensor, y: torch.Tensor, h: torch.Tensor) -> None:
        # All of shape (taps, strengths, pairs, classes * axes), oldest pair first; h is the preconditioned y.
        self._s, self._y, self._h = s, y, h
        sy = s @ y.transpose(-1, -2)
        diagonal = sy.diagonal(dim1=-2, dim2=-1)
        # A pair that was emptied for lack of curvature has zeros everywhere: a one here leaves it without effect.
        self._r = sy.triu() + torch.diag_embed((diagonal == 0).double())
        yh = y @ h.transpose(-1, -2)
        # Where the preconditioner is far too long for the newest pair (rows that are all but certain have next to no
        # curvature left), it is shortened to fit, as L-BFGS fits the length of the identity.
        scale = diagonal[..., -1] / yh[..., -1, -1].clamp(min=1e-300)
        self.scale = torch.where((scale > 0) & (scale < 0.3), scale, 1.0)
        self._scale = self.scale[..., None, None]
        self._middle = self._scale * yh + torch.diag_embed(diagonal)

    @classmethod
    def extended(
        cls, history: _History | None, s: torch.Tensor, y: torch.Tensor, precondition: _Preconditioner
    ) -> _History:
        """With a new pair behind the others, the oldest dropped."""
        good = _dot(s, y) > 1e-14 * (_dot(y, y) * _dot(s, s)).sqrt()
        s, y = s * good[..., None, None], y * good[..., None, None]
        new = [x.flatten(2).unsqueeze(2) for x in (s, y, precondition(y))]
        if history is not None:
            old = (history._s, history._y, history._h)
            new = [torch.cat([x[:, :, -(MEMORY - 1) :], z], dim=2) for x, z in zip(old, new, strict=True)]
        return cls(*new)

    def rebased(self, precondition: _Preconditioner) -> _History:
        """The same pairs on another preconditioner."""
        shape = (*self._y.shape[:3], *precondition.shape)
        h = torch.stack([precondition(y) for y in self._y.view(shape).unbind(2)], dim=2)
        return _History(self._s, self._y, h.flatten(3))

    def apply(self, precondition: _Preconditioner, g: torch.Tensor) -> torch.Tensor:
        """The inverse Hessian times g, (taps, strengths, classes, axes)."""
        h = precondition(g)
        flat, start = g.flatten(2).unsqueeze(-1), self._scale * h.flatten(2).unsqueeze(-1)
        v = torch.linalg.solve_triangular(self._r, self._s @ flat, upper=True)
        u = self._middle @ v - self._y @ start
        a = torch.linalg.solve_triangular(self._r.transpose(-1, -2), u, upper=False)
        out: torch.Tensor = start + self._s.transpose(-1, -2) @ a - self._h.transpose(-1, -2) @ (self._scale * v)
        return out.reshape(g.shape)

    def take(self, taps: torch.Tensor, strengths: torch.Tensor) -> _History:
        return _History(*(x[taps][:, strengths] for x in (self._s, self._y, self._h)))


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a * b).sum(dim=(-2, -1), dtype=torch.float64)


def _solve(
    problem: _Problem,
    w: torch.Tensor,
    strengths: torch.Tensor,
    null: torch.Tensor,
    tol: float,
    max_iter: int,
    verify: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights, gaps and iterations of all problems of a group, and whether the gaps are sure to be within `tol`.

    Args:
        null: of each problem, the objective of the intercepts alone
    """
    device = w.device
    out, out_gap = w.clone(), torch.full(w.shape[:2], torch.inf, dtype=torch.float64, device=device)
    out_iterations = torch.zeros(w.shape[:2], dtype=torch.int64, device=device)
    sure = torch.zeros(w.shape[:2], dtype=torch.bool, device=device)
    taps, cols = torch.arange(w.shape[0], device=device), torch.arange(w.shape[1], device=device)
    ridge = strengths[..., None, None] * torch.ones(w.shape[-1], dtype=torch.float64, device=device)
    ridge[..., 0] = 0

    logits = problem.logits(w)
    p, loss = problem.probabilities(logits.clone())
    f = loss + 0.5 * _dot(ridge * w, w)
    built = f.clone()
    since = 0
    precondition = _Preconditioner(*problem.curvature(p), strengths)
    g = problem.gradient(problem.residuals(p)) + ridge * w
    history: _History | None = None
    course: list[torch.Tensor] = []
    best = torch.full_like(f, torch.inf)
    stale = torch.zeros_like(f, dtype=torch.int64)
    finished = torch.zeros_like(f, dtype=torch.bool)
    most = min(max_iter, EARLY) if problem.large else max_iter
    for iteration in range(most + 1):
        g -= g.mean(dim=-2, keepdim=True)
        q = precondition(g) if history is None else history.apply(precondition, g)
        slope = -_dot(g, q)
        # Half of g' H^-1 g, from the preconditioner at its full length: rather too much than too little.
        gap = -0.5 * slope / f.clamp(min=1e-300)
        if history is not None:
            gap = gap / history.scale
        # What the last iterations gained, continued as a geometric series, is a second opinion.
        course.append(f)
        if len(course) > 6:
            del course[0]
            early, late = course[0] - course[3], course[3] - f
            rate = (late / early.clamp(min=1e-300)).clamp(0.0, 0.9)
            gap = torch.maximum(gap, late * rate / (1 - rate) / f.clamp(min=1e-300))
        better = gap < 0.7 * best
        best = torch.where(better, gap, best)
        stale = torch.where(better, 0, stale + 1)
        # The estimates have been seen up to seven times too small, so stop at a tenth of what must be certain. Where
        # regularisation leaves little but the intercepts, what predicts is the little that is gained on them.
        gained = ((null - f) / f.clamp(min=1e-300)).clamp(1e-3, 1.0)
        enough = (gap <= (0.1 * tol if verify else tol)) & (gap <= tol * gained)
        newly = ~finished & (enough | (stale >= PATIENCE) | ~(slope < 0))
        finished |= newly
        if iteration == most:
            newly |= ~finished
            finished[:] = True
        if newly.any():
            # The objective is strongly convex in the penalised weights, which bounds the gap however wrong the estimate
            # is. Where the bound is far off, the estimate may be, too; in tiny problems, where looking again costs
            # nothing, it was seen to be soonest. And of a loss of next to nothing, which separable classes have,
            # float32 cannot tell the last digits.
            bound = _dot(g[..., 1:], g[..., 1:]) / (2 * strengths * f.clamp(min=1e-300))
            safe = (
                enough
                if not verify
                else enough
                & (bound <= (tol if problem.tiny else 30 * tol))
                & ((f >= 1e-3 * null) | (problem.dtype == torch.float64))
            )
            for i, j in torch.nonzero(newly).tolist():
                sure[taps[i], cols[j]] = safe[i, j]
                out[taps[i], cols[j]], out_gap[taps[i], cols[j]] = w[i, j], gap[i, j]
                out_iterations[taps[i], cols[j]] = iteration
            keep_t, keep_s = ~finished.all(dim=1), ~finished.all(dim=0)
            if not keep_t.any():
                break
            if not (keep_t.all() and keep_s.all()):
                it, js = torch.nonzero(keep_t).flatten(), torch.nonzero(keep_s).flatten()

                def cut(x: torch.Tensor, it: torch.Tensor = it, js: torch.Tensor = js) -> torch.Tensor:
                    return x[it][:, js]

                if not keep_t.all():
                    problem = problem.take(it)
                if problem.by_column and not keep_s.all():
                    problem = problem.take_columns(js)
                taps, cols = taps[it], cols[js]
                w, g, q, f, slope, best, stale, finished, logits, ridge, strengths, built, null = map(
                    cut, (w, g, q, f, slope, best, stale, finished, logits, ridge, strengths, built, null)
                )
                precondition = precondition.take(it, js)
                history = history and history.take(it, js)
                course = [cut(x) for x in course]
        live = (~finished).double()
        d = -q * live[..., None, None]
        slope = slope * live
        change = problem.logits(d)
        t, trial, r, fn = _search(problem, logits, change, w, d, ridge, f, slope)
        s = t[..., None, None] * d
        logits, w, f = trial, w + s, fn
        since += 1
        rebuild = since >= 6 and bool(((built - f).abs() > 0.1 * f).any())
        gn = problem.gradient(r) + ridge * w
        gn -= gn.mean(dim=-2, keepdim=True)
        y = gn - g
        g = gn
        if rebuild:
            p, _ = problem.probabilities(logits.clone())
            precondition = _Preconditioner(*problem.curvature(p), strengths)
            built, since = f.clone(), 0
            history = history and history.rebased(precondition)
        history = _History.extended(history, s, y, precondition)
    return out, out_gap, out_iterations, sure


def _search(
    problem: _Problem,
    logits: torch.Tensor,
    change: torch.Tensor,
    w: torch.Tensor,
    d: torch.Tensor,
    ridge: torch.Tensor,
    f: torch.Tensor,
    slope: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Step lengths along `d`, and logits, weighted residuals and objective there.

    The objective is convex along the line, so a step is good once it went down and left most of the slope
    behind; until then the zero of the slope is bracketed and approached by secants.
    """
    w_d, d_d, w_w = _dot(ridge * w, d), _dot(ridge * d, d), _dot(ridge * w, w)
    t = torch.ones_like(f)
    low, high = torch.zeros_like(f), torch.full_like(f, torch.inf)
    slope_low, slope_high = slope.clone(), torch.full_like(f, torch.inf)
    scale = problem.n if problem.share is None else 1
    slack = 1e-6 if problem.dtype == torch.float32 else 1e-13
    for trial in range(25):
        at = torch.addcmul(logits, t.to(logits.dtype)[..., None, None], change)
        p, loss = problem.probabilities(at.clone())
        r = problem.residuals(p)
        fn = loss + 0.5 * (w_w + 2 * t * w_d + t * t * d_d)
        here = (r.flatten(2) * change.flatten(2)).sum(dim=2).double() / scale + w_d + t * d_d
        good = (here.abs() <= 0.8 * slope.abs()) & (fn <= f + slack * f.abs()) | (slope == 0)
        if bool(good.all()) or trial == 24:
            break
        up = here > 0
        high, slope_high = torch.where(up & ~good, t, high), torch.where(up & ~good, here, slope_high)
        low, slope_low = torch.where(~up & ~good, t, low), torch.where(~up & ~good, here, slope_low)
        inside = low + (high - low) * (slope_low / (slope_low - slope_high)).clamp(0.1, 0.9)
        beyond = torch.where(low > 0, low * (slope / (slope - slope_low).clamp(max=-1e-300)).clamp(1.5, 8), 0.5 * t)
        t = torch.where(good, t, torch.where(torch.isfinite(high), inside, beyond))
    return t, at, r, fn


def _newton(
    problem: _Problem, w: torch.Tensor, strength: float, tol: float, max_iter: int
) -> tuple[torch.Tensor, float, int]:
    """Weights, gap and iterations of one problem, from the best of some weights (starts, classes, axes) on.

    What conjugate gradients find for the decrease that the quadratic model allows grows towards it from below, on the
    exact Hessian; so it says what the gap is.
    """
    strengths = w.new_full((1, 1), strength)
    ridge = w.new_full(w.shape[-1:], strength)
    ridge[0] = 0
    logits = problem.logits(w[None])
    if len(w) > 1:
        start = int((problem.probabilities(logits.clone())[1][0] + 0.5 * _dot(ridge * w, w)).argmin())
        w, logits = w[start : start + 1], logits[:, start : start + 1].clone()
    w = w[None].clone()
    small = w.numel() <= _FullHessian.LARGEST
    # Where an iteration costs nothing: what is left over may hide much of the gap if there are only few rows.
    residual = 1e-6 if problem.tiny else 1e-3
    used, whole = 0, False
    while True:
        p, loss = problem.probabilities(logits.clone())
        f = float(loss) + 0.5 * float(_dot(ridge * w, w))
        g = problem.gradient(problem.residuals(p.clone())) + ridge * w
        g -= g.mean(dim=-2, keepdim=True)
        uncertain = _Uncertain(problem, p, strength) if problem.large else None
        if whole:
            precondition: _FullHessian | _Preconditioner = _FullHessian(problem, p, strength)
        else:
            curvature = problem.curvature(p) if uncertain is None else uncertain.curvature()
            precondition = _Preconditioner(*curvature, strengths)

        def hessian(v: torch.Tensor, p: torch.Tensor = p, uncertain: _Uncertain | None = uncertain) -> torch.Tensor:
            if uncertain is not None:
                return uncertain(v) + ridge * v
            u = problem.logits(v).mul_(p)
            u -= p * u.sum(dim=2, keepdim=True)
            return problem.gradient(u if problem.share is None else u.mul_(problem.share)) + ridge * v

        # From so many iterations on a whole Hessian costs less.
        limit = min(max_iter, w.numel() // 2) if small and not whole else max_iter
        step, model, count = _conjugate_gradients(hessian, g, precondition, f, residual, limit - used)
        used += count
        whole |= small and used >= limit
        gap = model / max(f, 1e-300)
        change = problem.logits(step)
        shift, square = float(_dot(ridge * w, step)), float(_dot(ridge * step, step))
        t = 1.0
        while t > 1e-8:
            value = float(problem.probabilities(logits - t * change)[1])
            value += 0.5 * float(_dot(ridge * w, w)) - t * shift + 0.5 * t * t * square
            if value <= f - 0.2 * t * model:
                break
            t /= 2
        else:
            return w[0, 0], gap, used
        w, logits = w - t * step, logits - t * change
        if gap <= (0.3 * tol if problem.tiny else tol) or used >= max_iter:
            return w[0, 0], gap, used


def _conjugate_gradients(
    hessian: Callable[[torch.Tensor], torch.Tensor],
    g: torch.Tensor,
    precondition: Callable[[torch.Tensor], torch.Tensor],
    f: float,
    residual: float,
    limit: int,
) -> tuple[torch.Tensor, float, int]:
    """The Newton step about so far as it pays, the decrease that the model promises for it, and the iterations."""
    step, r, course = torch.zeros_like(g), g, [0.0]
    d = z = precondition(r)
    first = rz = float(_dot(r, z))
    count = 0
    while count < limit:
        count += 1
        hd = hessian(d)
        curvature = float(_dot(d, hd))
        if not (rz > 0 and curvature > 0):
            break
        alpha = rz / curvature
        step += alpha * d
        course.append(course[-1] + 0.5 * alpha * rz)
        r = r - alpha * hd
        r -= r.mean(dim=-2, keepdim=True)
        z = precondition(r)
        rz, before = float(_dot(r, z)), rz
        # Far from the optimum a rough step will do.
        close = rz < (1e-2 if course[-1] > 1e-3 * f else residual) * first
        slow = len(course) > 4 and course[-1] - course[-4] < 0.01 * course[-1]
        if close and (slow or rz < 1e-8 * first):
            break
        d = z + (rz / before) * d
    return step, course[-1], count
