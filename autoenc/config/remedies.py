"""Settings to try after a run, as they are typed on the command line. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from autoenc.config.schema import CONFIGS


def against_collapse(config: Mapping[str, Any], choices: Mapping[str, str], scale: str = "") -> list[str]:
    """Return overrides of the config of a run that lower the pressure of the KL on the code; none without a KL.

    Each composes with the options that the run chose and changes the weight or the free bits of its KL.

    Args:
        scale: settings of a likelihood whose scale is too large (`Likelihood.remedy`), the first remedy. The code is
            not worth its KL then, and collapses at the end of a warm-up, too.
    """
    terms: Mapping[str, Any] = config["regularizer"]
    found = [scale] if scale else []
    if "kl" not in terms:
        return found
    weight, free_bits = terms["kl"].get("weight", 1.0), terms["kl"].get("free_bits", 0.0)
    if isinstance(weight, Mapping):
        key, end = "regularizer.kl.weight.end", weight.get("end", 1.0)
        if (fraction := weight.get("fraction", 1.0)) < 1 and not scale:
            found.append(f"regularizer.kl.weight.fraction={min(1.0, 2 * fraction):g}")
    else:
        key, end = "regularizer.kl.weight", weight
        schedule = [f"regularizer=[{','.join(['kl_warmup', *(term for term in terms if term != 'kl')])}]"]
        if sets_weight(choices.get("model", "")):
            schedule.insert(0, "model=vae")  # the number of the model would replace the schedule
        if end != 1:
            schedule.append(f"regularizer.kl.weight.end={end:g}")
        found += [] if scale else [" ".join(schedule)]
    if not config["model"].get("prior"):  # others may have no KL of each dimension
        found.append(f"regularizer.kl.free_bits={2 * free_bits or 0.1:g}")
    return [*found, f"{key}={end / 4:g}"]


def sets_weight(model: str) -> bool:
    """Whether a model option sets the weight of the KL."""
    path = CONFIGS / "model" / f"{model}.yaml"
    node = yaml.safe_load(path.read_text()) if path.is_file() else {}
    return "weight" in ((node.get("regularizer") or {}).get("kl") or {})
