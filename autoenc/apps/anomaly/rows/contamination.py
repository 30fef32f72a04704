"""The share of anomalies in the data that a run was trained on, as far as known normal rows tell it.

Of unlabelled rows alone nothing follows: any distribution may be that of normal rows. Let H and G be the probabilities
that a normal row and a row of the data, a share s of which are anomalies, score above c. Then

    G = (1 - s) H + s P(an anomaly scores above c) <= (1 - s) H + s    for each c,

with equality where all anomalies score above c (Meinshausen & Rice 2006; Blanchard, Lee & Scott 2010).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from autoenc.apps.anomaly.conformal import COVERAGE

LEVELS = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)  # of H, where the lower bound is tried; the first is that of the upper one
POINTS = 64  # of the integral over H
TITLE = "share of anomalies in the data of training"


@dataclass(frozen=True)
class Share:
    """A share of anomalies.

    Args:
        estimate: None if it cannot be told: without known normal rows, or if `low` is 0.
        low: holds whatever the anomalies are. high: holds if no anomaly scores below the median of normal rows. Both
            at once with a probability of 95%.
        words: the result.
    """

    estimate: float | None = None
    low: float = 0.0
    high: float = 1.0
    words: str = f"{TITLE}: cannot be told without known normal rows; --calibrate names a file of them"


def share(normal: np.ndarray, data: np.ndarray) -> Share:
    """Return the share of anomalies, given scores of known normal rows (n,) and of the data (N,), none trained on.

    The bounds hold for any n and N if the normal rows are drawn like those of the data. At the k-th highest of n scores
    H is Beta(k, n + 1 - k) distributed, and the number of rows above it binomial; a bound is the share at which such a
    number, or one more extreme, has a probability of 2.5%, which the levels of the lower bound have in common. The
    estimate is (G - H) / (1 - H) at the level of the highest lower bound.
    """
    from scipy.stats import beta, binom

    ordered, n, size = np.sort(normal), len(normal), len(data)
    ranks = [k for level in LEVELS if (k := int(level * (n + 1)))]
    if not ranks or not size:
        return Share()
    points, weights = np.polynomial.legendre.leggauss(POINTS)  # of (-1, 1), with a sum of 2
    above = {k: beta.ppf((1 + points) / 2, k, n + 1 - k) for k in ranks}  # H
    wrong = 1 - COVERAGE  # of low and high together, as is the integral of the weights
    low, estimate = 0.0, 0.0
    for k, h in above.items():
        count = int((data > ordered[-k]).sum())
        found = _root(lambda s: binom.sf(count - 1, size, s + (1 - s) * h) @ weights - wrong / len(ranks))  # noqa: B023
        if found > low:
            low, estimate = found, (count / size - k / (n + 1)) / (1 - k / (n + 1))
    count, h = int((data >= ordered[-ranks[0]]).sum()), above[ranks[0]]
    high = max(low, _root(lambda s: wrong - binom.cdf(count, size, s + (1 - s) * h) @ weights))
    beyond = f"at most {high:.2g} if no anomaly scores below the median of {n:,} known normal rows"
    if not low:
        return Share(None, low, high, f"{TITLE}: cannot be told from 0; {beyond}")
    estimate = min(max(estimate, low), high)
    return Share(estimate, low, high, f"{TITLE}: {estimate:.2g}; at least {low:.2g}, {beyond} (95% confidence)")


def _root(rising: Callable[[float], float]) -> float:
    """Return where a function of a share becomes positive, in [0, 1]."""
    from scipy.optimize import brentq

    if rising(0.0) >= 0:
        return 0.0
    return float(brentq(rising, 0.0, 1.0, xtol=1e-5)) if rising(1.0) > 0 else 1.0
