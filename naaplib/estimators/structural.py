"""Estimators of accuracy from the architecture alone, without any epoch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesRegressor, GradientBoostingRegressor, VotingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_selection import VarianceThreshold
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import Pipeline, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures, StandardScaler

from naaplib.architectures.cells import EDGES, OPERATIONS, Cell, sizes
from naaplib.architectures.schemes import Scheme
from naaplib.estimators import graf
from naaplib.estimators.candidates import ArdGaussianProcess
from naaplib.estimators.predictors.targets import decode, encode
from naaplib.tables import features

PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))  # edges of the paths from a cell's input to its output, the longest last
PENALTIES = np.logspace(-2, 4, 25)  # of ridge regression


def scheme_features(schemes: Sequence[Scheme]) -> pd.DataFrame:
    """Compute all features of schemes that estimators of `NAAP440` select from.

    Parameters
    ----------
    schemes : sequence of Scheme
        All schemes of a space, in the order of ModelId.

    Returns
    -------
    DataFrame, shape (n_archs, n_features)
        Indexed by ModelId. Names begin with their set: "blocks:", as `naaplib.tables.features.blocks` returns them;
        "smooth:", as `naaplib.tables.features.smooth_blocks` does; "graf:", as `naaplib.estimators.graf.of_schemes`
        does.
    """
    return pd.concat([
        features.blocks(schemes).add_prefix("blocks:"),
        features.smooth_blocks(schemes).add_prefix("smooth:"),
        graf.of_schemes(schemes).add_prefix("graf:"),
    ], axis=1)  # fmt: skip


def cell_features(cells: Iterable[Cell]) -> pd.DataFrame:
    """Compute all features of cells that estimators of `NASBENCH201` select from.

    Parameters
    ----------
    cells : iterable of Cell
        Six operations each, as `naaplib.architectures.cells.from_string` returns them.

    Returns
    -------
    DataFrame, shape (n_archs, n_features), one row a cell in the given order
        Names begin with their set. "onehot:": operations of the edges. "graf:": `naaplib.estimators.graf.of_cells`.
        "pruned:": the same of pruned cells; logarithms of parameters and of ReLU outputs before and after pruning; and
        for each sequence of up to three operations, the number of paths from input to output that consist of it and of
        any skip connections.
    """
    cells = list(cells)
    pruned = [graf.prune_cell(cell) for cell in cells]
    columns = [f"{operation}~{edge}" for edge in range(len(EDGES)) for operation in OPERATIONS]
    one_hot = np.array(
        [[name == operation for name in cell for operation in OPERATIONS] for cell in cells], dtype=float
    )
    whole, left = (np.log(sizes(some)[["n_params", "n_relu_units"]]) for some in (cells, pruned))
    return pd.concat([
        pd.DataFrame(one_hot.reshape(len(cells), -1), columns=columns).add_prefix("onehot:"),
        graf.of_cells(cells).add_prefix("graf:"),
        graf.of_cells(pruned).add_prefix("pruned:"),
        whole.add_prefix("pruned:whole "), left.add_prefix("pruned:left "),
        _paths(pruned).add_prefix("pruned:path "),
    ], axis=1)  # fmt: skip


def _paths(cells: Sequence[Cell]) -> pd.DataFrame:
    """Count the sequences of operations on paths; skip connections drop out of a sequence."""
    names = [name for name in OPERATIONS if name not in ("none", "skip_connect")]
    sequences = [">".join(one) for length in range(len(PATHS[-1]) + 1) for one in product(names, repeat=length)]
    counts = np.zeros((len(cells), len(sequences)))
    place = {sequence: i for i, sequence in enumerate(sequences)}
    for row, cell in enumerate(cells):
        for path in PATHS:
            on_path = [cell[edge] for edge in path]
            if "none" not in on_path:
                counts[row, place[">".join(name for name in on_path if name != "skip_connect")]] += 1
    return pd.DataFrame(counts, columns=sequences)


class NormalScores(TransformerMixin, BaseEstimator):
    """A transformation of a target to the normal quantiles of its ranks.

    The inverse interpolates between the targets of the fit and extrapolates linearly, so that it keeps the order.

    Examples
    --------
    >>> scores = NormalScores().fit([[0.5], [0.9], [0.6]])
    >>> scores.transform([[0.6]]).round(3).tolist(), scores.inverse_transform([[0.0]]).round(3).tolist()
    ([[0.0]], [[0.6]])
    """

    def fit(self, X: ArrayLike, y: None = None) -> NormalScores:
        """Take the targets, a column (n_archs, 1)."""
        self.targets_ = np.sort(np.asarray(X, dtype=float).ravel())
        return self

    def transform(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the scores of targets; between those of the fit, they are interpolated."""
        values, first = np.unique(self.targets_, return_index=True)
        scores = encode("normal scores", self.targets_)[first]
        return np.interp(np.asarray(X, dtype=float), values, scores)

    def inverse_transform(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the targets with the given scores."""
        scores = np.asarray(X, dtype=float)
        return decode("normal scores", self.targets_, z=scores.ravel()).reshape(scores.shape)


def make(name: str, *, seed: int = 0) -> BaseEstimator:
    """Make an estimator, unfitted; it selects its features by their names.

    Parameters
    ----------
    name : str
        One of `NAAP440` (features of `scheme_features`) or of `NASBENCH201` (features of `cell_features`).
    seed : int
        Seed of trees; the others draw no random numbers.

    Returns
    -------
    estimator
        Its ``fit`` takes a DataFrame of all features, with 10 rows or more, and accuracies (n_archs,).

    Notes
    -----
    Hyperparameters were chosen on the 400 training networks of the NAAP-440 table's published split, and on CIFAR-100
    and ImageNet16-120 of NAS-Bench-201. Ridge regressions choose their penalty by leaving out one row at a
    time; "blocks, ridge" has the products of two features, too, at a tenth of their size.

    Examples
    --------
    >>> from naaplib.architectures.schemes import enumerate_schemes
    >>> X = scheme_features(enumerate_schemes())
    >>> size = X["smooth:LogMACs"].to_numpy()
    >>> model = make("blocks, Gaussian process").fit(X[::4], size[::4])
    >>> bool(abs(model.predict(X) - size).mean() < 0.05)
    True
    """
    if name not in _RECIPES:
        raise ValueError(f"there is no estimator {name!r}; there are: {'; '.join(_RECIPES)}")
    return _RECIPES[name](seed)


def _on(features: str, *steps: BaseEstimator, target: BaseEstimator | None = None) -> TransformedTargetRegressor:
    """Chain steps after standardised features of one set, with a standardised target."""
    chosen = make_column_transformer(("passthrough", make_column_selector(pattern=f"^{features}:")))
    chain = make_pipeline(chosen, VarianceThreshold(), StandardScaler(), *steps)
    return TransformedTargetRegressor(chain, transformer=target or StandardScaler())


def _boosting(seed: int, **settings: Any) -> GradientBoostingRegressor:
    defaults = {"n_estimators": 500, "learning_rate": 0.05, "max_depth": 3, "subsample": 0.7}
    return GradientBoostingRegressor(random_state=seed, **(defaults | settings))


def _trees(seed: int, share: float) -> ExtraTreesRegressor:
    return ExtraTreesRegressor(300, max_features=share, random_state=seed)


def _process() -> Pipeline:
    """A Gaussian process of one length scale on principal components."""
    kernel = ConstantKernel() * Matern(15.0, (1.0, 1000.0), nu=1.5) + WhiteKernel(0.1, (1e-3, 1.0))
    return make_pipeline(PCA(0.999), _QuietProcess(kernel, random_state=0))


class _QuietProcess(GaussianProcessRegressor):
    """A Gaussian process that does not warn if a hyperparameter is at its bound."""

    def fit(self, X: ArrayLike, y: ArrayLike) -> _QuietProcess:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            super().fit(X, y)
        return self


def _blocks_ridge(seed: int) -> TransformedTargetRegressor:
    products = make_pipeline(PolynomialFeatures(2, include_bias=False), FunctionTransformer(_tenth))
    return _on("smooth", make_union("passthrough", products), RidgeCV(PENALTIES))


def _tenth(X: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.1 * X


def _blocks_process(seed: int) -> TransformedTargetRegressor:
    return _on("smooth", ArdGaussianProcess(n_iterations=200, length_scale=8.0, prior_sd=1.5))


def _blocks_boosting(seed: int) -> TransformedTargetRegressor:
    return _on("smooth", _boosting(seed, max_features=0.3))


def _pruned_boosting(seed: int) -> GradientBoostingRegressor:
    settings = {"n_estimators": 600, "learning_rate": 0.03, "max_depth": 4, "min_samples_leaf": 3}
    return _boosting(seed, subsample=0.5, max_features=0.1, **settings)


def _combined(seed: int) -> VotingRegressor:
    members = {"process": _process(), "boosting": _pruned_boosting(seed), "trees": _trees(seed, 1 / 3)}
    return VotingRegressor(list(members.items()), weights=[2, 2, 1])


_NAAP440: dict[str, Callable[[int], BaseEstimator]] = {
    "GRAF, extremely randomised trees": lambda seed: _on("graf", _trees(seed, 1 / 3)),
    "GRAF, Gaussian process": lambda seed: _on("graf", _process()),
    "blocks, ridge": _blocks_ridge,
    "blocks, extremely randomised trees": lambda seed: _on("smooth", _trees(seed, 0.7)),
    "blocks, boosting": _blocks_boosting,
    "blocks, Gaussian process": _blocks_process,
}
_NASBENCH201: dict[str, Callable[[int], BaseEstimator]] = {
    "one-hot, ridge": lambda seed: _on("onehot", RidgeCV(PENALTIES), target=NormalScores()),
    "one-hot, boosting": lambda seed: _on("onehot", _boosting(seed), target=NormalScores()),
    "GRAF, extremely randomised trees": lambda seed: _on("graf", _trees(seed, 1 / 3), target=NormalScores()),
    "GRAF, boosting": lambda seed: _on(
        "graf", _boosting(seed, n_estimators=300, subsample=0.5, max_features=0.2), target=NormalScores()
    ),
    "GRAF, Gaussian process": lambda seed: _on("graf", _process(), target=NormalScores()),
    "pruned GRAF, extremely randomised trees": lambda seed: _on("pruned", _trees(seed, 1 / 3), target=NormalScores()),
    "pruned GRAF, boosting": lambda seed: _on("pruned", _pruned_boosting(seed), target=NormalScores()),
    "pruned GRAF, Gaussian process": lambda seed: _on("pruned", _process(), target=NormalScores()),
    "pruned GRAF, combined": lambda seed: _on("pruned", _combined(seed), target=NormalScores()),
}
NAAP440, NASBENCH201 = tuple(_NAAP440), tuple(_NASBENCH201)
_RECIPES = _NAAP440 | _NASBENCH201
