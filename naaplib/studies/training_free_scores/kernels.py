"""Tables of NAS-WOT's kernel: its eigenvalues, its trace, and its determinant."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from naaplib import metrics


def readable(value: float) -> str:
    """Format a number of the summary: three digits, and whole ones of larger numbers.

    >>> readable(2792.47), readable(22.753), readable(0.0), readable(0.5204)
    ('2792', '22.8', '0', '0.52')
    """
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def relu_units(spaces: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Count networks by their ReLU units.

    Parameters
    ----------
    spaces : mapping from name to Series
        ReLU units of one image, for every network of a space.

    Returns
    -------
    DataFrame
        space, n_units, n (networks), sorted by space and units.
    """
    frames = [
        units.astype(int).value_counts().sort_index().rename_axis("n_units").reset_index(name="n").assign(space=space)
        for space, units in spaces.items()
    ]
    return pd.concat(frames, ignore_index=True)[["space", "n_units", "n"]]


def parts(spectra: pd.DataFrame) -> pd.DataFrame:
    """Divide each network's log-determinant into size and shape of the spectrum.

    With K images and N units, log det is K log N plus the log-determinant of the kernel divided by N. The first part is
    that of the ReLU count; only the second depends on weights and images.

    Parameters
    ----------
    spectra : DataFrame
        As `.tasks.spectra` returns it.

    Returns
    -------
    DataFrame
        One row per network: space, architecture, n_images, n_units, trace (sum of eigenvalues by K N), largest
        (eigenvalue by the trace), smallest (eigenvalue), log_det, size, shape (log_det and shape are NaN where an
        eigenvalue is not positive).
    """
    rows = []
    for (space, name), part in spectra.groupby(["space", "architecture"], sort=False):
        values, n_units = part["eigenvalue"].to_numpy(float), int(part["n_units"].iloc[0])
        n_images = len(values)
        smallest = values.min()
        is_regular = smallest > 1e-9 * values.max()
        log_det = float(np.log(values).sum()) if is_regular else np.nan
        size = n_images * np.log(n_units)
        rows.append({
            "space": space, "architecture": name, "n_images": n_images, "n_units": n_units,
            "trace": values.sum() / (n_images * n_units), "largest": values.max() / values.sum(), "smallest": smallest,
            "log_det": log_det, "size": size, "shape": log_det - size,
        })  # fmt: skip
    return pd.DataFrame(rows)


def summary(networks: pd.DataFrame, accuracies: Mapping[str, pd.Series]) -> pd.DataFrame:
    """Describe the kernels of each space.

    Parameters
    ----------
    networks : DataFrame
        As `parts` returns it.
    accuracies : mapping from space to Series
        Indexed by architecture.

    Returns
    -------
    DataFrame
        One row per space: space, n, n_singular, trace_error (largest deviation of the trace from K N, as a share of
        it), largest (median share of the trace in the largest eigenvalue), smallest (the least eigenvalue of regular
        kernels), size_sd and shape_sd (of the two parts of log det), then tau-b of accuracy with log det, size and
        shape, and of log det with size and shape, over networks with a regular kernel.
    """
    rows = []
    for space, part in networks.groupby("space", sort=False):
        regular = part.dropna(subset="log_det")
        truth = accuracies[str(space)].loc[regular["architecture"]].to_numpy(float)
        row: dict[str, object] = {
            "space": space, "n": len(part), "n_singular": len(part) - len(regular),
            "trace_error": (part["trace"] - 1).abs().max(), "largest": part["largest"].median(),
            "smallest": regular["smallest"].min(), "size_sd": regular["size"].std(), "shape_sd": regular["shape"].std(),
        }  # fmt: skip
        row |= {f"tau_{name}": _tau(truth, regular[name]) for name in ("log_det", "size", "shape")}
        row |= {f"log_det_{name}": _tau(regular["log_det"], regular[name]) for name in ("size", "shape")}
        rows.append(row)
    return pd.DataFrame(rows)


def bands(spectra: pd.DataFrame) -> pd.DataFrame:
    """Return the eigenvalues of each rank, divided by the number of units.

    Columns are space, rank, low, middle, high (least, median and greatest over networks) and n (networks). An average
    eigenvalue is 1.
    """
    shares = spectra.assign(share=spectra["eigenvalue"] / spectra["n_units"])
    groups = shares.groupby(["space", "rank"], sort=False)["share"]
    return groups.agg(low="min", middle="median", high="max", n="size").reset_index()


def _tau(first: object, second: object) -> float:
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    return metrics.kendall_tau(a, b) if len(a) > 1 else float("nan")
