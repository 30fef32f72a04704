"""Measure texts: retrieval on 20 Newsgroups, and what keeps the code of a sentence VAE in use, on Multi30k.

The second makes two trainings at a time, a thread each: of a language model, which is the same decoder without a code,
and of the preset experiment=multi30k with each remedy. Texts must lie in data/20newsgroups/ and data/multi30k/. The
figures are printed and written to outputs/bench/results_text.json.
"""

from __future__ import annotations

import math
import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from bench import OUT, figure, main, train
from bench_apps import result, script

PRESET = ["experiment=multi30k", "trainer.device=cpu", "trainer.threads=1", "trainer.figures=0"]
REMEDIES = {
    "none": ["regularizer=[kl]", "regularizer.kl.free_bits=0.0"],
    "word dropout 0.5": ["regularizer=[kl]", "regularizer.kl.free_bits=0.0", "network.word_dropout=0.5"],
    "warm-up, a quarter": ["regularizer=[kl_warmup]", "regularizer.kl.free_bits=0.0"],  # as kl_warmup.yaml has it
    "warm-up, the whole": [
        *("regularizer=[kl_warmup]", "regularizer.kl.free_bits=0.0", "regularizer.kl.weight.fraction=1.0"),
    ],
    "cyclical": ["regularizer=[kl_cyclical]", "regularizer.kl.free_bits=0.0"],
    "cyclical, word dropout 0.3": [
        *("regularizer=[kl_cyclical]", "regularizer.kl.free_bits=0.0", "network.word_dropout=0.3"),
    ],
    "free bits": [],  # the preset
}
AT_ONCE = 2  # trainings


def language_model() -> float:
    """Nats per test sentence of the preset's decoder where z is 0 for all, trained as the preset is: no encoder."""
    import torch

    from autoenc import build
    from autoenc.estimators import inmemory
    from autoenc.schedules import Cosine
    from autoenc.seeds import seeded

    checked = inmemory.compose(PRESET)
    settings, rate = checked["trainer"], checked["optimizer"]["lr"]
    torch.set_num_threads(1)
    with seeded(checked["seed"]):
        data = build.build_data(checked)
        model = build.build_model(checked, data.spec)
        optimizer = build.build_optimizers(checked, {"model": model.decoder})["model"]
        factor = Cosine(settings["epochs"] * math.ceil(len(data.train) / settings["batch_size"]), settings["warmup"])

        def nll(batch: Any) -> torch.Tensor:
            return model.nll(torch.zeros(len(batch), checked["model"]["latent_dim"]), batch)

        @torch.no_grad()
        def mean(split: Any) -> float:
            model.eval()
            return float(sum(nll(batch).sum() for batch in split.in_order(100))) / len(split)

        step, best, chosen = 0, math.inf, math.nan
        for epoch in range(settings["epochs"]):
            model.train()
            for batch in data.train.shuffled(settings["batch_size"], checked["seed"], epoch):
                optimizer.param_groups[0]["lr"] = rate * factor(step)
                optimizer.zero_grad()
                nll(batch).mean().backward()
                optimizer.step()
                step += 1
            if (found := mean(data.val)) < best:
                best, chosen = found, mean(data.test)
    return chosen


def remedy(name: str) -> dict[str, float]:
    """Train the preset with a remedy and measure it on the test sentences: a row of the table."""
    folder = f"text_{name.replace(' ', '_').replace(',', '')}"
    train(folder, *PRESET, *REMEDIES[name])
    script("evaluate", OUT / folder, "--only", "reconstruction", "latent", "bounds", "--device", "cpu", "--force")
    found = result(f"{folder}/evaluation.json")
    bounds, latent, words = found["bounds"], found["latent"], found["reconstruction"]["words"]
    return {
        "ELBO": bounds["elbo"],
        "NLL, 100 samples": bounds["nll_importance"],
        "KL": latent["kl"],
        "mutual information": latent["mutual_information"],
        "active units": latent["active_units"],
        "of": latent["dim"],
        "perplexity": math.exp(bounds["elbo"] / words),
        "words": words,
    }


def collapse() -> None:
    """Nats per sentence of the 1,000 test sentences; perplexity is exp(ELBO / word), an upper bound."""
    from autoenc.screen import console, method_table

    with ProcessPoolExecutor(AT_ONCE, get_context("spawn")) as pool:
        plain = pool.submit(language_model)
        rows = dict(zip(REMEDIES, pool.map(remedy, REMEDIES), strict=True))
    words, nll = rows["none"].pop("words"), plain.result()
    table = {"language model": {"NLL, 100 samples": nll, "perplexity": math.exp(nll / words)}, **rows}
    for row in rows.values():
        row.pop("words", None)
    order = dict.fromkeys(key for row in rows.values() for key in row)
    console().print(
        method_table("what keeps a code in use", {n: {k: r.get(k, "") for k in order} for n, r in table.items()})
    )
    for name, row in table.items():
        for key, value in row.items():
            if name != "free bits" or key not in ("ELBO", "active units"):
                figure(f"{name}: {key}", value)
    kept = rows["free bits"]
    half, most = kept["of"] / 2, 1.1 * nll
    figure("free bits: active units", kept["active units"], f">= {half:g}", kept["active units"] >= half)
    figure("free bits: ELBO", kept["ELBO"], f"<= {most:.4g} (LM + 10 %)", kept["ELBO"] <= most)
    run = OUT / "text_free_bits"
    print(script("generate", run, "--count", 10, "--device", "cpu", "--force"))
    print(script("generate", run, "--reconstruct", 5, "--device", "cpu", "--force"))
    print(script("generate", run, "--interpolate", 0, 5, "--steps", 7, "--beam", 5, "--device", "cpu", "--force"))


def newsgroups() -> None:
    """20 Newsgroups in 128 numbers: the 10 nearest training posts of each test post; 3 seeds."""
    rows: list[dict[str, float]] = []
    for seed in range(3):
        train(f"newsgroups_{seed}", "experiment=newsgroups", f"seed={seed}", "trainer.device=cpu", "trainer.figures=0")
        script("evaluate", OUT / f"newsgroups_{seed}", "--only", "retrieval", "--device", "cpu", "--force")
        found = result(f"newsgroups_{seed}/evaluation.json")["retrieval"]
        rows.append({name: numbers["precision@10"] for name, numbers in found.items()})
    for name in rows[0]:
        values = [row[name] for row in rows]
        value, spread = statistics.mean(values), statistics.stdev(values)
        target = (">= 0.695", value >= 0.695) if name == "codes" else ("", None)
        figure(f"20 Newsgroups, {name}: precision@10 (sd {spread:.4f})", value, *target)


if __name__ == "__main__":
    main(__doc__, {"newsgroups": newsgroups, "collapse": collapse}, "results_text.json")
