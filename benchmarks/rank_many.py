"""A thousand models through `naaplib.rank`, killed and resumed: ``python benchmarks/rank_many.py``.

The models are ShuffleNets of different depths and widths, given as functions, 0.3 to 4 MB each, 1.5 GB in all. A first
process ranks 100 of them; a second starts on all and is killed when 400 are done; a third does the rest. Writes
``rank-many.csv``: models found in the storage file and done, seconds, and the most memory of each process.
"""

import csv
import itertools
import json
import resource
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from torch import nn
from torchvision.models import ShuffleNetV2

import naaplib
from naaplib.compendium import provenance

N_MODELS, KILLED_AT, FEW = 1000, 400, 100
ROOT = Path(__file__).resolve().parents[1]


def build(depths: tuple[int, int, int], width: int, last: int) -> nn.Module:
    """Build a ShuffleNet for 100 classes."""
    return ShuffleNetV2(list(depths), [24, width, 2 * width, 4 * width, last], num_classes=100)


def models() -> dict[str, partial[nn.Module]]:
    """Return functions that build a thousand different networks."""
    depths = itertools.product((1, 2, 3, 4), (2, 3, 4, 5), (1, 2, 3, 4))
    every = itertools.product(depths, (32, 48, 64, 96), (256, 512, 768, 1024))
    return {
        f"{d}-{width}-{last}": partial(build, d, width, last) for d, width, last in itertools.islice(every, N_MODELS)
    }


def work(n: int, storage: str) -> None:
    """Rank the first n models, and print what the process took."""
    start = time.perf_counter()
    some = dict(itertools.islice(models().items(), n))
    table = naaplib.rank(some, by="synflow,macs", image_side=32, n_images=2, storage=storage)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(
        json.dumps(
            {"ranked": int(table["rank"].notna().sum()) // 2, "seconds": time.perf_counter() - start, "peak": peak}
        )
    )


def run(n: int, storage: Path, kill_at: int = 0) -> dict[str, object]:
    """Start a process that ranks n models, and perhaps kill it."""
    found = lines(storage)
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, __file__, str(n), str(storage)], stdout=subprocess.PIPE, text=True)
    while kill_at and lines(storage) < kill_at:
        time.sleep(0.02)
    if kill_at:
        process.send_signal(signal.SIGKILL)
    text, _ = process.communicate()
    told = json.loads(text) if text else {"seconds": time.perf_counter() - start}
    return {
        "process": "killed" if kill_at else f"ranks {n}", "found": found, "done": lines(storage) - found,
        "ranked": told.get("ranked", ""), "seconds": round(told["seconds"], 1),
        "most_memory_mib": round(told["peak"]) if "peak" in told else "",
    }  # fmt: skip


def lines(storage: Path) -> int:
    """Return the number of finished models in a storage file."""
    return max(storage.read_text().count("\n") - 1, 0) if storage.is_file() else 0


if __name__ == "__main__":
    if sys.argv[1:]:
        work(int(sys.argv[1]), sys.argv[2])
    else:
        with tempfile.TemporaryDirectory() as folder:
            few, many = Path(folder, "few.jsonl"), Path(folder, "many.jsonl")
            rows = [run(FEW, few), run(N_MODELS, many, KILLED_AT), run(N_MODELS, many)]
        here = provenance.describe_run(0.0)
        rows = [row | {"device": here["device"], "n_cores": here["n_cores"]} for row in rows]
        with (ROOT / "benchmarks" / "rank-many.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        print(*rows, sep="\n")
