"""Repeated architecture tuning on tabular benchmarks, with ablations and others."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.stats import norm
from tqdm import tqdm

from naaplib.architectures.graphs import Graphs
from naaplib.cache import write_text
from naaplib.estimators.ensembles.encodings import encode
from naaplib.estimators.predictors.presets import tuned
from naaplib.parallel import bar_disabled, one_thread
from naaplib.search import bayesian, guided, guided_runs
from naaplib.search.search_space import Encoding
from naaplib.search.tuning import Search, SearchSpace, Settings

Values = NDArray[np.float64]
Progress = tuple[Values, Values]  # trajectory: cost in full evaluations, and the best value by then
Make = Callable[..., Progress]  # maps a seed, by its name, to a trajectory

TUNING = "tuning"  # with its default settings
EARLIER = "tuning, first settings"
DESCRIBED = "tuning, with graph features"  # otherwise as `TUNING`
RANDOM = "random search"
GUIDED = "predictor-guided"
_STEP = 5.0  # full evaluations between two checks for the best architecture


@dataclass(frozen=True)
class Benchmark:
    """Tabular benchmark: architectures with known values at two fidelities.

    Parameters
    ----------
    name : str
    encodings : sequence of tuple, length n_archs
    full, cheap : ndarray, shape (n_archs,)
        Values of full and cheap (low-fidelity) evaluations. The best architecture has the highest full value.
    costs : (float, float)
        Costs of a full and a low-fidelity evaluation.
    metrics : DataFrame
        Metrics for `.search_space.SearchSpace.preprocess`.
    graphs : Graphs, optional
        Graphs for improved predictors, which guided searches need.
    graph_features : DataFrame, shape (n_archs, n_features), optional
        Numbers that `described` appends to the encodings.
    """

    name: str
    encodings: Sequence[Encoding]
    full: Values
    cheap: Values
    costs: tuple[float, float]
    metrics: pd.DataFrame
    graphs: Graphs | None = None
    graph_features: pd.DataFrame | None = None

    def described(self) -> Benchmark:
        """Return the benchmark with encodings that have the graph features too.

        Features that are constant, or equal to an earlier one, are left out.
        """
        if self.graph_features is None:
            raise ValueError(f"{self.name} has no graph features")
        varied = self.graph_features.loc[:, self.graph_features.max() > self.graph_features.min()]
        rows = varied.T.drop_duplicates().T.itertuples(index=False, name=None)
        both = [(*encoding, *row) for encoding, row in zip(self.encodings, rows, strict=True)]
        return replace(self, encodings=both, graph_features=None)

    def digest(self) -> str:
        """Return a digest of everything that a search sees."""
        told = [list(map(list, self.encodings)), self.full.tolist(), self.cheap.tolist(), self.costs]
        return hashlib.sha256((json.dumps(told) + self.metrics.to_csv()).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Variant:
    """A way to tune: the default, or the default with one part changed.

    Parameters
    ----------
    pretraining : {"simultaneous", "sequential"} or None
    two_fidelities : bool
    n_members : int
    settings : Settings
    """

    pretraining: str | None = "simultaneous"
    two_fidelities: bool = True
    n_members: int = 5
    settings: Settings = field(default_factory=Settings)


FIRST = Settings(n_initial=5, n_initial_cheap=80, n_cheap=8)  # the tool's first settings, of the searches in `VARIANTS`
VARIANTS = {
    EARLIER: Variant(settings=FIRST),
    "without pretraining": Variant(pretraining=None, settings=FIRST),
    "one metric after the other": Variant(pretraining="sequential", settings=FIRST),
    "one fidelity": Variant(two_fidelities=False, settings=FIRST),
    "one fidelity, without pretraining": Variant(pretraining=None, two_fidelities=False, settings=FIRST),
    "2 members": Variant(n_members=2, settings=FIRST),
    "20 members": Variant(n_members=20, settings=FIRST),
    "expected improvement": Variant(settings=replace(FIRST, acquisition="expected improvement")),
    "upper confidence bound": Variant(settings=replace(FIRST, acquisition="upper confidence bound")),
}
PAIRS = {
    "pretraining": (EARLIER, "without pretraining"),
    "pretraining, with one fidelity": ("one fidelity", "one fidelity, without pretraining"),
    "two fidelities": (EARLIER, "one fidelity"),
    "two fidelities, without pretraining": ("without pretraining", "one fidelity, without pretraining"),
    "all metrics at once": (EARLIER, "one metric after the other"),
    "a smaller cheap design": (TUNING, EARLIER),
    "graph features": (DESCRIBED, TUNING),
}


def space(benchmark: Benchmark, variant: Variant, *, seed: int) -> SearchSpace:
    """Return a benchmark's search space, pretrained as the variant says."""
    made = SearchSpace(benchmark.name, benchmark.encodings, n_members=variant.n_members, seed=seed)
    if variant.pretraining:
        made.preprocess(metrics=benchmark.metrics, mode=variant.pretraining)
    return made


def search(benchmark: Benchmark, variant: Variant, *, seed: int) -> Search:
    """Return a search of a benchmark that has not begun."""
    rows = {encoding: i for i, encoding in enumerate(benchmark.encodings)}

    def full(encoding: Encoding) -> float:
        return float(benchmark.full[rows[encoding]])

    def cheap(encoding: Encoding) -> float:
        return float(benchmark.cheap[rows[encoding]])

    own, two = space(benchmark, variant, seed=seed), variant.two_fidelities
    cheaper, cost = (cheap, benchmark.costs[1]) if two else (None, None)
    return Search(
        own,
        full,
        cost=benchmark.costs[0],
        evaluate_cheaply=cheaper,
        cheap_cost=cost,
        seed=seed,
        settings=variant.settings,
    )


def tune(benchmark: Benchmark, variant: Variant, *, budget: float, seed: int) -> Progress:
    """Search until the best architecture is found or the budget is spent."""
    own = search(benchmark, variant, seed=seed)
    for spent in [*np.arange(_STEP, budget, _STEP), budget]:
        trace = own.run(spent)
        if trace["best"].max() >= benchmark.full.max():
            break
    known = trace.dropna(subset="best")
    return _steps(known["spent"].to_numpy(), known["best"].to_numpy())


def run(
    benchmark: Benchmark,
    variants: Mapping[str, Variant],
    *,
    others: Iterable[str],
    n_seeds: int,
    at: Sequence[float],
    n_train: int,
    folder: Path | None = None,
    n_jobs: int = 1,
) -> pd.DataFrame:
    """Run repeated searches of a benchmark until they find its best architecture.

    Parameters
    ----------
    variants : mapping from name to Variant
    others : iterable of str
        Names among `RANDOM`, `GUIDED`, "Gaussian process" and "TPE", which have full evaluations alone.
    n_seeds : int
        Number of seeds 0, 1, ... Variants with the same seed begin with the same architectures.
    at : sequence of float
        Numbers of full evaluations at which the best value so far is read. The last one is the budget, except for
        random search, which runs until it finds the best.
    n_train : int
        Size of a guided search's training set, drawn at random.
    folder : Path or None
        Cache of finished searches.
    n_jobs : int
        Number of processes; the result does not depend on it.

    Returns
    -------
    DataFrame
        One row per search: benchmark, search, seed, first_best (full evaluations until the best was found; NaN if
        it was not within the budget), and for each of `at` the best value by then.
    """
    budget, mark = at[-1], {"benchmark": benchmark.digest(), "budget": at[-1]}
    bare = replace(benchmark, graphs=None, graph_features=None)  # smaller, to send to processes
    made: dict[str, tuple[dict[str, object], Make]] = {
        name: (asdict(variant), partial(tune, bare, variant, budget=budget)) for name, variant in variants.items()
    }
    for name in others:
        if name == GUIDED:
            orders = _guided(benchmark, n_seeds, n_train=n_train, budget=int(budget), folder=folder, n_jobs=n_jobs)
            made[name] = {"n_train": n_train}, partial(_look_up, bare, orders)
        else:
            made[name] = {}, partial(_order, bare, name, int(budget))
    tasks = [(name, told, seed, make) for name, (told, make) in made.items() for seed in range(n_seeds)]
    parallel = Parallel(n_jobs=n_jobs, return_as="generator")
    work = (delayed(_kept)(*task, mark, folder) for task in tasks)
    done = tqdm(parallel(work), benchmark.name, len(tasks), unit="search", disable=bar_disabled())
    rows = []
    for (name, _, seed, _), (spent, best) in zip(tasks, done, strict=True):
        is_best = best >= benchmark.full.max()
        first = float(spent[is_best.argmax()]) if is_best.any() else math.nan
        place = np.searchsorted(spent, at, side="right") - 1
        values = np.where(place >= 0, best[place], math.nan)
        rows.append({"benchmark": benchmark.name, "search": name, "seed": seed, "first_best": first}
                    | {f"{x:g}": value for x, value in zip(at, values, strict=True)})  # fmt: skip
    return pd.DataFrame(rows)


def _kept(
    name: str, told: dict[str, object], seed: int, make: Make, benchmark: dict[str, object], folder: Path | None
) -> Progress:
    """Return a search's trajectory, from its cache file if there is one."""
    mark = hashlib.sha256(json.dumps([benchmark, name, told, seed]).encode()).hexdigest()[:24]
    path = folder / f"{mark}.json" if folder else None
    if path and path.is_file():
        spent, best = json.loads(path.read_text())
        return np.array(spent), np.array(best)
    with one_thread():
        spent, best = make(seed=seed)
    if path:
        write_text(path, json.dumps([spent.tolist(), best.tolist()]))
    return spent, best


def _look_up(benchmark: Benchmark, orders: NDArray[np.int64], seed: int) -> Progress:
    return _progress(benchmark, orders[seed])


def _progress(benchmark: Benchmark, order: NDArray[np.int64]) -> Progress:
    """Return the trajectory of full evaluations in a given order."""
    return _steps(np.arange(1, len(order) + 1, dtype=float), np.maximum.accumulate(benchmark.full[order]))


def _steps(spent: Values, best: Values) -> Progress:
    """Keep the steps of a trajectory at which the best value rises."""
    rises = np.diff(best, prepend=-np.inf) > 0
    return spent[rises], best[rises]


def _order(benchmark: Benchmark, name: str, budget: int, seed: int) -> Progress:
    """Run another search and return its trajectory."""
    n_archs = len(benchmark.full)
    n_trained = min(budget, n_archs)
    if name == RANDOM:
        order = guided.random_orders(n_archs, n_archs, n_runs=1, seed=seed)[0]
    elif name == "Gaussian process":
        order = bayesian.gaussian_process(encode(benchmark.encodings), benchmark.full, n_trained=n_trained, seed=seed)
    elif name == "TPE":
        paths = [tuple(str(part) for part in encoding if part is not None) for encoding in benchmark.encodings]
        order = bayesian.tpe(paths, benchmark.full, n_trained=n_trained, seed=seed)
    else:
        raise ValueError(f"no search is called {name!r}; there are {RANDOM}, {GUIDED}, Gaussian process and TPE")
    return _progress(benchmark, order)


def _guided(
    benchmark: Benchmark, n_seeds: int, n_train: int, budget: int, folder: Path | None, n_jobs: int
) -> NDArray[np.int64]:
    """Return the orders (n_seeds, budget) of searches guided by a graph network."""
    n_archs = len(benchmark.full)
    if benchmark.graphs is None:
        raise ValueError(f"{benchmark.name} has no graphs, which a guided search needs")
    whole = guided_runs.Space(
        benchmark.name,
        (benchmark.graphs, benchmark.graphs),
        signal=benchmark.full,
        judged=benchmark.full,
        costs=np.ones(n_archs),
        n_trained=min(budget, n_archs),
    )
    named = {GUIDED: guided_runs.Search(n_train, tuned())}
    return guided_runs.run(whole, named, n_runs=n_seeds, seed=0, folder=folder, n_jobs=n_jobs)[GUIDED]


def calibration(
    benchmark: Benchmark, variant: Variant, *, n_seeds: int, budget: float, levels: Sequence[float] = (0.5, 0.8, 0.95)
) -> pd.DataFrame:
    """Return the coverage of the ensemble's prediction intervals.

    Coverage is the share of architectures without a full evaluation whose value lies within the interval.

    Returns
    -------
    DataFrame
        benchmark, spread ("of members", "calibrated" or "conformal"), nominal, n (searches), n_values (their mean
        number), share (mean over searches), sd (over searches).
    """
    shares = []
    for seed in range(n_seeds):
        own = search(benchmark, variant, seed=seed)
        trace = own.run(budget)
        left = np.setdiff1d(np.arange(len(benchmark.full)), trace.loc[trace["fidelity"] == "full", "position"])
        values = benchmark.full[left]
        for name in ("of members", "calibrated"):
            told = own.predict(calibrated=name == "calibrated").loc[left]
            deviations = (np.abs(values - told["mean"]) / told["spread"]).to_numpy()
            shares += [(name, x, len(left), (deviations <= norm.ppf((1 + x) / 2)).mean()) for x in levels]
        for x in levels:
            told = own.intervals(x).loc[left]
            is_within = (told["low"] <= values) & (values <= told["high"])
            shares.append(("conformal", x, len(left), is_within.mean()))
    table = pd.DataFrame(shares, columns=["spread", "nominal", "n_values", "share"])
    found = table.groupby(["spread", "nominal"], sort=False, as_index=False).agg(
        n=("share", "size"), n_values=("n_values", "mean"), share=("share", "mean"), sd=("share", "std")
    )
    return found.assign(benchmark=benchmark.name)[["benchmark", *found.columns]]
