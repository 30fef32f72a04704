"""Figure of the recordings with the highest scores."""

from __future__ import annotations

from typing import Any

import numpy as np

from autoenc.apps.anomaly.steps.metrics import stretches
from autoenc.apps.anomaly.steps.timeline import Timeline
from autoenc.figures import new_figure, pixels
from autoenc.loading import Run

SHOWN, CHANNELS, STAMPS = 3, 4, 6  # recordings, channels, and time stamps below each recording


def figure(run: Run, result: Timeline) -> np.ndarray:
    """Draw the recordings with the highest scores: signal, reconstruction, score, alarms and known anomalies."""
    values, limit = result.found.scores[result.score], result.thresholds[result.score]
    spans = sorted(result.spans, key=lambda span: -float(values[span[1] : span[2]].max()))[:SHOWN]
    kind: Any = run.spec.kind
    center, scale = np.array(kind.channels.center), np.array(kind.channels.scale)
    count = min(CHANNELS, len(result.names))
    drawing = new_figure(11, (1.1 * count + 1.3) * len(spans) + 0.6)
    grid = drawing.subplots(
        len(spans) * (count + 1), 1, squeeze=False, gridspec_kw={"height_ratios": ([1] * count + [1.3]) * len(spans)}
    )[:, 0]
    signal, reconstruction = result.found.x, result.found.x_hat
    for k, (i, start, stop) in enumerate(spans):
        here, t = slice(start, stop), result.found.steps[start:stop] - result.axis.starts[i]
        order = np.sort(np.argsort(-result.found.channels[here].mean(0), kind="stable")[:count])
        for axes, c in zip(grid[k * (count + 1) :], order, strict=False):
            for x, name in ((signal, "signal"), (reconstruction, "reconstruction")):
                axes.plot(t, x[here, c] * scale[c] + center[c], linewidth=0.8, label=name)
            axes.set_ylabel(
                "\n".join(filter(None, (result.names[c], kind.drawn_steps))), fontsize=7, rotation=0, ha="right"
            )
        lowest = grid[k * (count + 1) + count]
        lowest.plot(t, values[here], color="black", linewidth=0.8, label=f"score: {result.score}")
        lowest.axhline(limit, color="tab:red", linewidth=0.9, linestyle="--", label="threshold")
        lowest.set_ylabel("score", fontsize=7, rotation=0, ha="right")
        if (values[here].max() > 20 * limit) and limit > 0:
            lowest.set_yscale("log")
        for axes in grid[k * (count + 1) : (k + 1) * (count + 1)]:
            axes.tick_params(labelsize=6)
            axes.set_xlim(t[0], t[-1] + 1)
            for n, (a, b) in enumerate(stretches(result.alarms[here], (stop - start,), result.join)):
                axes.axvspan(t[a], t[b - 1] + 1, ymax=0.06, color="tab:red", label="alarm" if n == 0 else None)
            if result.labels is not None:
                for n, (a, b) in enumerate(stretches(np.ma.filled(result.labels[here], False), (stop - start,))):
                    label = "known anomaly" if n == 0 else None
                    axes.axvspan(t[a], t[b - 1] + 1, color="tab:orange", alpha=0.2, linewidth=0, label=label)
        if result.axis.recordings[i].stamps is not None:
            at = np.unique(np.linspace(t[0], t[-1], STAMPS).astype(int))
            for axes in grid[k * (count + 1) : (k + 1) * (count + 1)]:
                axes.set_xticks(at, [result.axis.stamp(i, step) for step in at.tolist()])
        for axes in grid[k * (count + 1) : (k + 1) * (count + 1) - 1]:
            axes.set_xticklabels([])
        grid[k * (count + 1)].set_title(result.axis.recordings[i].name, fontsize=9, loc="left")
    shown: dict[str, Any] = {}
    for axes in (grid[0], grid[count]):
        shown |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    drawing.legend(shown.values(), shown.keys(), fontsize=8, loc="outside upper center", ncols=len(shown))
    grid[-1].set_xlabel("time step" if result.axis.recordings[spans[-1][0]].stamps is None else "time", fontsize=8)
    return pixels(drawing)
