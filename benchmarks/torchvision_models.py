"""Every classification model of torchvision through `naaplib.rank`: ``python benchmarks/torchvision_models.py``.

Writes ``torchvision-models.csv``, one row per model and score: the score, or the reason why there is none, and its
seconds. A stopped run resumes from ``build/``. The few models of more than `MOST` parameters are only counted, because
gradients of theirs need more than 16 GiB.
"""

import resource
import time

import pandas as pd
import torchvision

import naaplib
from naaplib.compendium import provenance
from naaplib.sources import ROOT

COUNTS = "n_params,macs,depth"
SCORES = f"{COUNTS},relu_count,nas_wot,epe_nas,jacobian_covariance,gradient_norm,snip,synflow"
MOST = 400_000_000
N_IMAGES = 4


def n_params(name: str) -> int:
    """Return what torchvision says."""
    return torchvision.models.get_model_weights(name).DEFAULT.meta["num_params"]


if __name__ == "__main__":
    names = torchvision.models.list_models(module=torchvision.models)
    large = [name for name in names if n_params(name) > MOST]
    others = [name for name in names if name not in large]
    start = time.perf_counter()
    tables = [
        naaplib.rank(some, by=by, n_images=N_IMAGES, storage=ROOT / "build" / f"torchvision-{kind}.jsonl")
        for kind, some, by in (("others", others, SCORES), ("large", large, COUNTS))
    ]
    here = provenance.describe_run(time.perf_counter() - start)
    table = pd.concat(tables, ignore_index=True).drop(columns="rank")
    scored = table.assign(has=table["score"].notna()).groupby("by", sort=False)["has"].agg(["sum", "size"])
    table["score"] = [f"{value:.6g}" if value == value else "" for value in table["score"]]
    table = table.assign(
        seconds=table["seconds"].round(2), n_images=N_IMAGES, device=here["device"], n_cores=here["n_cores"],
        torchvision=torchvision.__version__.split("+")[0],
    )  # fmt: skip
    table.to_csv(ROOT / "benchmarks" / "torchvision-models.csv", index=False, lineterminator="\n")
    print(scored.to_string())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{len(names)} models, {table['seconds'].sum():.0f} s, {peak:.1f} GiB at most; only counted: {large}")
