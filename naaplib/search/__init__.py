"""Searches: by a score, guided by a predictor, multi-fidelity, Bayesian.

The package can be called: ``naaplib.search(space, objective, budget=...)`` is `naaplib.search.study.search`.
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
