"""Checks of other values for a notebook's parameters, before anything runs."""

from __future__ import annotations

import difflib
import math
from collections.abc import Collection
from dataclasses import fields
from functools import lru_cache
from typing import Any

from naaplib.compendium.execution import RunError

N_SPLITS, N_EPOCHS, N_NETWORKS = 11, 90, 440  # of NAAP-440
OWN_KEYS = ("recipe", "other_recipes", "n_images", "other_windows", "deep")  # nothing is taken from the default
FREE_KEYS = ("other_recipes", "other_windows", "faithful", "tuned")  # names of the user, and settings of scikit-learn
SELECTED = ("claims",)  # a key that is left out is not run
LEAST, MOST = {"eta": 2}, {"classify_above": 1.0}
LARGEST, LARGEST_SEED = 10**9, 2**32 - 1  # whole numbers; numpy and torch take seeds so far
ITEMS: dict[str, Any] = {"model_ids": [1], "shown": [1], "scores": [""]}  # of lists that are empty by default
# lists as long as the default's
AS_LONG = ("n_epochs", "epochs_spent", "splits_layers", "deep", "other_windows", "published_losses")
VALUES_AS = {"other_recipes": "recipe"}  # mappings whose every value is like another parameter of the chapter
MAY_BE_EMPTY = ("proxies", "algorithms", "batch_sizes", "published")  # lists that a chapter may go without
DISTINCT = ("split_indices", "model_ids", "epochs", "at_epochs", "other_seeds", "training_lengths")
OF_EPOCHS = {  # numbers of epochs of NAAP-440's trainings, by chapter
    "00": ("epochs", "answered_at"),
    "02": ("n_epochs",),
    "03": ("lengths", "n_recipe_epochs"),
    "04": ("training_lengths",),
    "05": ("budgets",),
    "07": ("n_epochs", "at_epochs", "answered_at"),
}
OF_BLOCKS = ("kernel_sizes", "widths", "strides", "skips")  # one list of options for each block
ONE_OF = {
    ("00", "few"): ("n_train", "NAAP-440"),
    ("00", "answered_at"): ("epochs",),
    ("07", "answered_at"): ("at_epochs",),
}


def fitted(where: str, value: Any, *, default: Any, comment: str = "") -> Any:
    """Return a value of a parameter, if its type, keys and range fit the default.

    Numbers of a mapping that are not given are those of the default, except in mappings that select (`SELECTED`) or
    whose keys are free (`OWN_KEYS`).

    Parameters
    ----------
    where : str
        Chapter and name, as in "05-baselines: parameter n_seeds".
    value, default : object
        Literals.
    comment : str
        Comment behind the default in the notebook: 0 has a meaning of its own if it has "0:".

    Raises
    ------
    RunError
        The message says what came and what is allowed.

    Examples
    --------
    >>> fitted("06: parameter te_nas", {"n_seeds": 3}, default={"n_seeds": 2, "n_images": 16})
    {'n_seeds': 3, 'n_images': 16}
    """
    name = where.rsplit(" ", 1)[-1]
    if isinstance(default, dict) and (value or not ("{}:" in comment or name in OWN_KEYS)):
        value = _mapping(where, value, default=default)
    if default == [] and value:
        default = ITEMS.get(name, [])
    if (allowed := words().get((where[:2], name))) is not None:
        given = value if isinstance(value, list) else [value]
        if unknown := [one for one in given if one not in allowed]:
            raise RunError(f"{where} must be of {', '.join(map(repr, allowed))}, not {unknown[0]!r}")
    if isinstance(value, list):
        _list(where, value, default=default, comment=comment)
    if name in DISTINCT and any(value.count(one) > 1 for one in value):
        raise RunError(f"{where} must be different values, not {value!r}")
    if name == "split_indices" and not all(0 <= one < N_SPLITS for one in value):
        raise RunError(f"{where} must be of 0 to {N_SPLITS - 1}, not {value!r}")
    _number(where, value, default=default, comment=comment)
    return value


def agree(stem: str, given: dict[str, Any], *, parameters: dict[str, Any]) -> None:
    """Refuse values that no training has, or that contradict others, by RunError."""
    if lists := [name for name in OF_BLOCKS if name in given and set(OF_BLOCKS) <= set(parameters)]:
        lengths = {name: len(parameters[name]) for name in OF_BLOCKS}
        if len(set(lengths.values())) > 1:
            raise RunError(
                f"{stem}: parameter {lists[0]} must have one list a block, as {', '.join(OF_BLOCKS)} have, "
                f"not {len(given[lists[0]])} beside {lengths}: give all four"
            )
    for name in OF_EPOCHS.get(stem[:2], ()):
        several = given[name] if isinstance(given.get(name), list) else [given.get(name, 0)]
        if too_long := [one for one in several if one > N_EPOCHS]:
            raise RunError(
                f"{stem}: parameter {name} must be of the {N_EPOCHS} epochs of a training, not {too_long[0]}"
            )
    if not parameters.get("schemes_file"):  # else positions among other schemes
        for name in {"model_ids", "shown"} & given.keys():
            if unknown := [one for one in given[name] if one > N_NETWORKS]:
                raise RunError(f"{stem}: parameter {name} must be of 1 to {N_NETWORKS}, not {unknown[0]}")
    for (chapter, name), place in ONE_OF.items():
        if stem.startswith(f"{chapter}-") and name in parameters and {name, place[0]} & given.keys():
            allowed: Any = parameters
            for key in place:
                allowed = allowed[key]
            if parameters[name] not in allowed:
                raise RunError(
                    f"{stem}: parameter {name} must be one of {place[0]}, {allowed}, not {parameters[name]}: give both"
                )


@lru_cache(maxsize=1)
def words() -> dict[tuple[str, str], Collection[str | None]]:
    """Return the words that a parameter allows, by chapter and name.

    For a mapping, these are its keys.
    """
    from naaplib.architectures import cifar_networks
    from naaplib.estimators import cheap_metrics, regressors
    from naaplib.estimators.ensembles import ensemble
    from naaplib.estimators.proxies.runs import SCORES
    from naaplib.tables import derived, naap440
    from naaplib.training import distributed, feature_history, trainer

    algorithms: dict[tuple[str, str], Collection[str | None]]
    algorithms = {(chapter, "algorithms"): list(regressors.ALGORITHMS) for chapter in ("00", "03", "04", "05", "07")}
    return algorithms | {
        ("03", "trainer"): ["compiled", "torch"],
        ("04", "ties"): naap440.TIES,
        ("06", "scores"): list(SCORES),
        ("07", "features_of"): feature_history.KINDS,
        ("07", "classics"): cifar_networks.NAMES,
        ("09", "published"): list(derived.CURVES),
        ("09", "published_losses"): list(derived.CURVES),
        ("10", "others"): ["random search", "Gaussian process", "TPE", "predictor-guided"],
        ("10", "cheap"): cheap_metrics.METRICS,
        ("10", "pretraining"): [*ensemble.MODES, None],
        ("11", "precision"): trainer.PRECISIONS,
        ("11", "engine"): distributed.ENGINES,
    }


@lru_cache(maxsize=1)
def keys() -> dict[tuple[str, str], list[str]]:
    """Return the keys of a mapping beyond those of its default, by chapter and name."""
    from naaplib.estimators.proxies.runs import SCORES
    from naaplib.search.training_runs import Setting
    from naaplib.search.tuning import Settings
    from naaplib.training.recipe import Recipe

    of_setting, of_search = [[one.name for one in fields(kind)] for kind in (Setting, Settings)]
    return {
        ("03", "recipe"): [one.name for one in fields(Recipe)],
        ("06", "n_images"): list(SCORES),
        ("07", "classic"): of_setting,
        ("07", "main_claim"): of_setting,
        ("07", "cell"): of_setting,
        ("08", "deep"): ["CIFAR-100", "Caltech-101", "Oxford-IIIT Pet"],
        ("09", "trained"): of_setting,
        ("10", "settings"): of_search,
        ("10", "search"): of_search,
    }


def _mapping(where: str, value: dict[Any, Any], *, default: dict[Any, Any]) -> dict[Any, Any]:
    """Check keys and values; add what is not given, except where a key that is left out means something."""
    name = where.rsplit(" ", 1)[-1]
    allowed = [*default, *(key for key in keys().get((where[:2], name), []) if key not in default)]
    is_free = not allowed or name in FREE_KEYS
    for key, one in value.items():
        if key not in allowed and not is_free:
            close = difflib.get_close_matches(str(key), [str(other) for other in allowed], n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise RunError(f"{where} has no {key!r}{hint}; it has: {', '.join(map(str, allowed))}")
        model = default.get(key, next(iter(default.values())) if name in OWN_KEYS and default else None)
        may_be_none = None in default.values() or None in words().get((where[:2], key), ())
        if not (one is None and may_be_none) and not _is_like(one, model, is_strict=one is None):
            raise RunError(f"{where}: {key} must be like {model!r}, not {one!r}")
        if name in VALUES_AS:
            fitted(f"{where}, {key}: {VALUES_AS[name]}", one, default={})
        else:
            fitted(f"{where}, {key}", one, default=model)
    return value if name in (*OWN_KEYS, *SELECTED) else default | value


def _list(where: str, value: list[Any], *, default: Any, comment: str) -> None:
    if not default:
        return
    if not value and not set(_words(where)) & set(MAY_BE_EMPTY):
        raise RunError(f"{where} must be one value or more, as {default!r}, not []")
    if set(_words(where)) & set(AS_LONG) and len(value) != len(default):
        raise RunError(f"{where} must be {len(default)} values, as {default!r}, not {value!r}")
    if odd := [one for one in value if not any(_is_like(one, other, is_strict=True) for other in default)]:
        raise RunError(f"{where} must be a list of values like {default[0]!r}, not of {odd[0]!r}")
    numbers = [other for other in default if _is_number(other)]
    for one in value if numbers else []:
        _number(where, one, default=min(numbers), comment=comment)


def _number(where: str, value: Any, *, default: Any, comment: str) -> None:
    """Refuse what is not finite, below 0, or 0 where at least one is needed."""
    if not _is_number(value) or not _is_number(default) or default < 0:
        return
    name = where.rsplit(" ", 1)[-1]
    is_seed = "seed" in name and not name.startswith("n_")
    may_be_0 = default == 0 or isinstance(default, float) or "0:" in comment
    least = 0 if may_be_0 or is_seed or name.startswith("max_") else LEAST.get(name, 1)
    if not math.isfinite(value) or value < least:
        raise RunError(f"{where} must be {least} or more, not {value!r}")
    most = next((MOST[word] for word in _words(where) if word in MOST), LARGEST_SEED if is_seed else LARGEST)
    if value > most:
        raise RunError(f"{where} must be {most:,} or less, not {value!r}")


def _words(where: str) -> list[str]:
    return where.replace(",", "").split()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_like(value: Any, default: Any, *, is_strict: bool) -> bool:
    """Compare types; in a mapping a whole number may become another, since 8 and 2.5 trainings cost alike."""
    if default is None or value is None:
        return default is None or not is_strict
    if _is_number(value) and _is_number(default):
        return not is_strict or isinstance(default, float) or isinstance(value, int)
    if isinstance(value, list) and isinstance(default, list):
        return not default or all(any(_is_like(one, other, is_strict=is_strict) for other in default) for one in value)
    return type(value) is type(default)
