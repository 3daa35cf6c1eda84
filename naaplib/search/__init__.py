"""Searches: by a score, guided by a predictor, multi-fidelity, Bayesian.

The package can be called: ``naaplib.search`` is `naaplib.search.study.search`, which lists the arguments.

>>> import naaplib
>>> def accuracy(params, n_epochs):
...     return 1 - 1 / (n_epochs * params["width"])  # yours: train so long, return validation accuracy
>>> study = naaplib.search({"width": range(8, 65)}, accuracy, budget=100, max_epochs=9, method="random", seed=0)
>>> study.best_params, round(study.best_value, 3)
({'width': 56}, 0.998)
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Package(ModuleType):
    """A package that is also the function of its name, which `naaplib` offers."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Search a space; see `naaplib.search.study.search`."""
        return import_module("naaplib.search.study").search(*args, **kwargs)


package = sys.modules[__name__]
package.__class__ = _Package
