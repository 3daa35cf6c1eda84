"""Zero-cost proxies: scores of networks without any training."""

from naaplib.estimators.proxies.scores import (
    Score,
    depth,
    epe_nas,
    gradient_norm,
    jacobian_covariance,
    linear_regions,
    macs,
    n_parameters,
    nas_wot,
    ntk_condition,
    relu_count,
    snip,
    synflow,
)

__all__ = [
    "Score",
    "depth",
    "epe_nas",
    "gradient_norm",
    "jacobian_covariance",
    "linear_regions",
    "macs",
    "n_parameters",
    "nas_wot",
    "ntk_condition",
    "relu_count",
    "snip",
    "synflow",
]
