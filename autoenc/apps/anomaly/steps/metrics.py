"""How well scores of time steps tell anomalies from normal steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

SEED = 1  # that of the scores at random is 0
DRAWS = 20  # of random scores
LEVELS = 250  # thresholds of VUS-PR, as in the authors' code

Stretch = tuple[int, int]  # first step, end


@dataclass(frozen=True)
class Scored:
    """The scored steps of all recordings.

    Args:
        scores: (S,) higher is more anomalous. labels: (S,) bool, masked where not known. alarms: (S,) bool.
        ends: the ends of the recordings in S; intervals of anomalies or alarms do not cross them.
        join: alarms that are fewer steps apart are one event.
    """

    scores: np.ndarray
    labels: np.ndarray
    alarms: np.ndarray
    ends: tuple[int, ...]
    join: int = 1


def stretches(flags: np.ndarray, ends: Sequence[int], join: int = 1) -> list[Stretch]:
    """Return the stretches of True in flags (S,), one for those that are fewer than `join` steps apart."""
    found: list[Stretch] = []
    for start, stop in zip([0, *ends[:-1]], ends, strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], flags[start:stop].astype(np.int8), [0]]))) + start
        inside: list[Stretch] = []
        for begin, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            if inside and begin - inside[-1][1] < join:
                inside[-1] = (inside[-1][0], end)
            else:
                inside.append((begin, end))
        found += inside
    return found


def labelled(data: Scored) -> Scored:
    """Return the steps whose label is known; intervals do not cross the others."""
    places = np.flatnonzero(~np.ma.getmaskarray(data.labels))
    apart = (np.diff(places) != 1) | (np.diff(np.searchsorted(data.ends, places, side="right")) != 0)
    ends = (*(np.flatnonzero(apart) + 1).tolist(), len(places))
    return replace(
        data, scores=data.scores[places], labels=np.asarray(data.labels)[places], alarms=data.alarms[places], ends=ends
    )


def quality(data: Scored, buffer: int) -> dict[str, float]:
    """Return the metrics of scores and alarms of the steps whose label is known.

    Args:
        buffer: largest tolerance of VUS-PR, in steps.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    data, random = labelled(data), np.random.default_rng(SEED)
    share = float(data.alarms.mean())
    drawn = [random.uniform(size=len(data.labels)) < share for _ in range(DRAWS)]
    adjusted = [f1(data.labels, adjusted_alarms(data.labels, each, data.ends)) for each in drawn]
    return {
        "auroc": float(roc_auc_score(data.labels, data.scores)),
        "average_precision": float(average_precision_score(data.labels, data.scores)),
        "vus_pr": vus_pr(data.labels, data.scores, data.ends, buffer),
        **rates(data.labels, data.alarms),
        **events(data),
        "adjusted_f1": f1(data.labels, adjusted_alarms(data.labels, data.alarms, data.ends)),
        "adjusted_f1_random": float(np.mean(adjusted)),
    }


def rates(labels: np.ndarray, alarms: np.ndarray) -> dict[str, float]:
    """Return F1 of the steps, the false-alarm rate FP / (FP + TN) and the missed-alarm rate FN / (FN + TP)."""
    normal, anomalies = int((~labels).sum()), int(labels.sum())
    return {
        "step_f1": f1(labels, alarms),
        "false_alarms": float((alarms & ~labels).sum() / max(1, normal)),
        "missed_alarms": float((~alarms & labels).sum() / max(1, anomalies)),
    }


def f1(labels: np.ndarray, alarms: np.ndarray) -> float:
    """Return 2 TP / (2 TP + FP + FN); 0 without alarms."""
    hits = int((labels & alarms).sum())
    return 2 * hits / max(1, int(labels.sum()) + int(alarms.sum()))


def events(data: Scored) -> dict[str, float]:
    """Return which part of the alarms overlap an anomaly, which part of the anomalies an alarm, and the mean delay.

    The delay is that of detected anomalies, from their first step to the first alarm in them.
    """
    alarms, anomalies = stretches(data.alarms, data.ends, data.join), stretches(data.labels, data.ends)
    inside = np.concatenate([[0], np.cumsum(data.labels)])
    right = [inside[stop] > inside[start] for start, stop in alarms]
    delays = [int(data.alarms[start:stop].argmax()) for start, stop in anomalies if data.alarms[start:stop].any()]
    return {
        "event_precision": float(np.mean(right)) if right else 0.0,
        "event_recall": len(delays) / max(1, len(anomalies)),
        "delay": float(np.mean(delays)) if delays else float("nan"),
    }


def adjusted_alarms(labels: np.ndarray, alarms: np.ndarray, ends: Sequence[int]) -> np.ndarray:
    """Return alarms with every step of an anomaly that has an alarm (point adjustment, Xu et al. 2018)."""
    adjusted = alarms.copy()
    for start, stop in stretches(labels, ends):
        adjusted[start:stop] |= alarms[start:stop].any()
    return adjusted


def vus_pr(labels: np.ndarray, scores: np.ndarray, ends: Sequence[int], buffer: int) -> float:
    """Return the volume under the surface of precision and recall over tolerances (Paparrizos et al. 2022).

    For a tolerance l, labels decrease from 1 at the border of an anomaly as sqrt(1 - d / l), d steps away, up to
    l / 2. With these soft labels y_l, alarms a at a threshold, and P anomalous steps,

        precision = sum(y_l a) / sum(a)
        recall = min(1, sum(y_l a) / ((P + sum(y_l)) / 2)) * (fraction of the stretches of y_l > 0 with an alarm),

    and the area is that of the trapezoids between 250 quantiles of the scores. The volume is the mean over
    l = 0 ... buffer.
    """
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    levels = ordered[np.linspace(0, len(scores) - 1, LEVELS).astype(int)]
    alarms = np.searchsorted(-ordered, -levels, side="right")  # number of steps at or above each level
    anomalies, count = stretches(labels, ends), int(labels.sum())
    areas = []
    for tolerance in range(buffer + 1):
        soft = softened(labels, anomalies, ends, tolerance)
        hits = np.cumsum(soft[order])[alarms - 1]
        regions = stretches(soft > 0, ends)
        highest = np.sort([scores[start:stop].max() for start, stop in regions])
        seen = 1 - np.searchsorted(highest, levels, side="left") / len(regions)
        recall = np.concatenate([[0.0], np.minimum(1, hits / ((count + soft.sum()) / 2)) * seen])
        precision = np.concatenate([[1.0], hits / alarms])
        areas.append(float(np.sum(np.diff(recall) * (precision[1:] + precision[:-1]) / 2)))
    return float(np.mean(areas))


def softened(labels: np.ndarray, anomalies: Sequence[Stretch], ends: Sequence[int], tolerance: int) -> np.ndarray:
    """Return soft labels (S,) in [0, 1]; see `vus_pr`."""
    soft = labels.astype(np.float64)
    if tolerance < 2:
        return soft
    away = np.arange(1, tolerance // 2 + 1)
    slope = np.sqrt(1 - away / tolerance)
    for start, stop in anomalies:
        end = next(each for each in ends if each >= stop)
        begin = max((each for each in ends if each <= start), default=0)
        after = stop - 1 + away
        before = start - away
        np.add.at(soft, after[after < end], slope[after < end])
        np.add.at(soft, before[before >= begin], slope[before >= begin])
    return np.minimum(soft, 1)
