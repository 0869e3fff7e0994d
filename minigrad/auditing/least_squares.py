"""The weights: the least-squares solution of ``G = Σ w_i g_i``, what determines them, and their uncertainty.

Rows that fit into memory are reduced by a QR decomposition, and solved by the singular values of its triangle (Golub
and Van Loan, *Matrix Computations*, section 5.5). Otherwise the conjugate gradient method solves the normal equations
of the Gram matrix, and the products with the gradients themselves refine the solution; the tridiagonal matrix of its
steps estimates the condition (Golub and Meurant, *Matrices, Moments and Quadrature*, section 12).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

_INDEPENDENT = 2.0**12  # multiples of the round-off above which a singular value counts
_LARGEST_SMALL = 2.0**-7  # of the largest, in float16 and bfloat16
_SHARED = 1e-6  # elements of a projector above which two units share a direction
_STEPS = 500  # of the conjugate gradient method


@dataclass(frozen=True, eq=False)
class Solution:
    """The weights of the units in a gradient.

    Attributes
    ----------
    weights : array (U,)
        Among several solutions, the one of least norm, for gradients of length one.
    noise : array (U,)
        The error of each weight for an error of norm 1 in the gradient.
    undetermined : list of arrays
        The sets of units whose weights cannot be told apart.
    rank : int or None
        None where it is not known.
    condition : float
        The ratio of the largest to the smallest singular value of the gradients of length one, zeros left out.
    residual : float
        The distance of G from the nearest combination.
    converged : bool
        Whether an iterative solution ended by its tolerance, not by its number of steps.
    """

    weights: np.ndarray
    noise: np.ndarray
    undetermined: list[np.ndarray]
    rank: int | None
    condition: float
    residual: float
    converged: bool = True


def solve_rows(rows: np.ndarray, gradient: np.ndarray, roundoff: float) -> Solution:
    """Return the weights of the rows (U, P) in a gradient (P,), rows of zeros and dependent rows among them."""
    norms = np.linalg.norm(rows, axis=1)
    scale = np.where(norms > 0, norms, 1)
    columns = np.vstack([rows / scale[:, None], gradient]).T
    triangle: np.ndarray = np.linalg.qr(columns, mode="r")  # type: ignore[assignment]  # no tuple in this mode
    n = len(rows)
    own, rotated = triangle[:, :n], triangle[:, n]
    u, s, vt = np.linalg.svd(own, full_matrices=False)
    small = max(min(_INDEPENDENT * roundoff, _LARGEST_SMALL), max(rows.shape) * 2.0**-52) * s.max(initial=0.0)
    rank = int((s > small).sum())
    inner = u[:, :rank].T @ rotated
    normalized = vt[:rank].T @ (inner / s[:rank])
    noise = np.linalg.norm(vt[:rank].T / s[:rank], axis=1)
    left = rotated - u[:, :rank] @ inner
    condition = float(s[0] / s[rank - 1]) if rank else 1.0
    return Solution(normalized / scale, noise / scale, dependent(vt[:rank]), rank, condition,
                    float(np.linalg.norm(left)))


def dependent(directions: np.ndarray) -> list[np.ndarray]:
    """Return the sets of units that the null space connects, from orthonormal directions (D, U) of the row space."""
    rank, units = directions.shape
    if rank == units:
        return []
    shared = np.abs(np.eye(units) - directions.T @ directions) > _SHARED  # the projector on the null space
    left, sets = np.array(shared.any(axis=1)), []
    while left.any():
        members, wider = np.zeros(units, bool), np.arange(units) == np.argmax(left)
        while (wider & ~members).any():
            members, wider = wider, wider | shared[wider & ~members].any(axis=0)
        left &= ~members
        sets.append(np.flatnonzero(members))
    return sets


def components(links: Mapping[int, set[int]]) -> list[np.ndarray]:
    """Return the sets of nodes that symmetric links connect, in ascending order."""
    sets: list[np.ndarray] = []
    seen: set[int] = set()
    for start in sorted(links):
        if start in seen:
            continue
        members: set[int] = set()
        front = {start}
        while front:
            members |= front
            front = set().union(*(links[k] for k in front)) - members
        seen |= members
        sets.append(np.array(sorted(members)))
    return sets


def solve_gram(gram: np.ndarray, gradient: np.ndarray, dot: Callable[[np.ndarray], np.ndarray],
               combine: Callable[[np.ndarray], np.ndarray], roundoff: float) -> Solution:
    """Return the weights from the Gram matrix (U, U), which is scaled in place.

    Parameters
    ----------
    gram : array (U, U)
    gradient : array (P,)
    dot : callable
        From a vector (P,) to its products with the gradients (U,).
    combine : callable
        From weights (U,) to the sum of the weighted gradients (P,).
    roundoff : float
        That of the gradients.
    """
    norms = np.sqrt(np.diagonal(gram).copy())
    scale = np.where(norms > 0, norms, 1)
    gram /= scale
    gram /= scale[:, None]
    weights, left = np.zeros(len(gram)), gradient
    largest, smallest, converged = 1.0, 1.0, True
    for k in range(4):
        step, low, high, ended = conjugate_gradients(gram, dot(left) / scale, 16 * roundoff)
        converged = ended if not k else converged
        smallest, largest = min(smallest, low), max(largest, high)
        moved = weights + step / scale
        remainder = gradient - combine(moved)
        if np.linalg.norm(remainder) > 0.9 * np.linalg.norm(left):
            break
        weights, left = moved, remainder
    pairs = _parallel(gram, roundoff)
    return Solution(weights, np.full(len(gram), 1 / np.sqrt(max(smallest, 1e-300))) / scale, pairs,
                    None if pairs or smallest < roundoff * len(gram) else len(gram),
                    float(np.sqrt(largest / max(smallest, 1e-300))), float(np.linalg.norm(left)), converged)


def conjugate_gradients(a: np.ndarray, b: np.ndarray, tolerance: float) -> tuple[np.ndarray, float, float, bool]:
    """Return the solution of ``a x = b``, the extreme eigenvalues of `a` that the steps have seen, and convergence."""
    x, r = np.zeros(len(b)), b.astype(np.float64)
    p, square = r.copy(), float(r @ r)
    first = square
    diagonal: list[float] = []
    beside: list[float] = []
    alpha, beta = 1.0, 0.0
    while square > tolerance**2 * first and len(diagonal) < min(_STEPS, 4 * len(b)):
        ap = a @ p.astype(a.dtype)
        curvature = float(p @ ap)
        if curvature <= 0:
            break
        before, alpha = alpha, square / curvature
        diagonal.append(1 / alpha + beta / before)
        x, r = x + alpha * p, r - alpha * ap
        beta, square = float(r @ r) / square, float(r @ r)
        beside.append(np.sqrt(beta) / alpha)
        p = r + beta * p
    if not diagonal:
        return x, 1.0, 1.0, True
    k = len(diagonal)
    ritz = np.linalg.eigvalsh(np.diag(diagonal) + np.diag(beside[:k - 1], 1) + np.diag(beside[:k - 1], -1))
    return x, float(max(ritz[0], 0)), float(ritz[-1]), square <= tolerance**2 * first


def _parallel(gram: np.ndarray, roundoff: float) -> list[np.ndarray]:
    """Return the sets of units whose gradients are parallel, or zero, from the Gram matrix of length one."""
    near = 1 - max(2 * _INDEPENDENT * roundoff, 1e-10)
    links: dict[int, set[int]] = {}
    for k in range(len(gram)):
        for j in (k, *np.flatnonzero(np.abs(gram[k, :k]) > near).tolist()):
            if j < k or gram[k, k] == 0:
                links.setdefault(k, set()).add(j)
                links.setdefault(j, set()).add(k)
    return components(links)
