"""Penalised scores, network by network, against the size of the network."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from naaplib import metrics
from naaplib.estimators.proxies import penalties
from naaplib.studies.training_free_scores import tables


def points(counts: Mapping[str, pd.DataFrame], n_shown: int = 250) -> pd.DataFrame:
    """Return the ReLU count of networks without and with every penalty on size.

    Parameters
    ----------
    counts : mapping from space to DataFrame
        Columns n_params and relu_count, a row for each network. Sizes take one byte for a parameter.
    n_shown : int
        Networks of each space, at most; they are spread over the space's sizes.

    Returns
    -------
    DataFrame
        A row for each network and penalty: space, penalty ("gaussian" and so on), megabytes, score_without,
        score_intended and score_printed (by reading).
    """
    rows = []
    for space, count in counts.items():
        part = count.sort_values("n_params", kind="stable").iloc[:: -(-len(count) // n_shown)]
        size = pd.Series(penalties.megabytes(part["n_params"]), index=part.index)
        found = tables.penalised(part["relu_count"], size)
        for penalty in dict.fromkeys(name.split(", ")[0] for name in found.columns.drop("no penalty")):
            readings = {f"score_{reading}": found[f"{penalty}, {reading}"] for reading in penalties.READINGS}
            columns = {"space": space, "penalty": penalty, "megabytes": size, "score_without": found["no penalty"]}
            rows.append(pd.DataFrame(columns | readings))
    return pd.concat(rows, ignore_index=True)


def first(counts: Mapping[str, pd.DataFrame], share: float = 0.01) -> pd.DataFrame:
    """Return how large the networks are that a penalised ReLU count puts first.

    Parameters
    ----------
    counts : mapping from space to DataFrame
        As in `points`; all rows are used.
    share : float
        Share of the networks that counts as the first; ties with the last of them count too.

    Returns
    -------
    DataFrame
        space, penalty (with its reading, "no penalty" first), n (networks), n_first, kilobytes, kilobytes_smallest and
        kilobytes_largest (median, smallest and largest of the first), tau_b (of penalised count and size).
    """
    rows = []
    for space, count in counts.items():
        size = pd.Series(penalties.megabytes(count["n_params"]), index=count.index)
        for penalty, values in tables.penalised(count["relu_count"], size).items():
            leading = 1000 * size[values >= values.nlargest(max(int(share * len(values)), 1)).iloc[-1]]
            row = {"space": space, "penalty": penalty, "n": len(count), "n_first": len(leading)}
            row |= {
                "kilobytes": leading.median(),
                "kilobytes_smallest": leading.min(),
                "kilobytes_largest": leading.max(),
            }
            rows.append(row | {"tau_b": metrics.kendall_tau(size, values)})
    return pd.DataFrame(rows)
