"""One call for every search, in Optuna's words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from joblib import Parallel, delayed, effective_n_jobs
from tqdm import tqdm

from naaplib.parallel import bar_disabled
from naaplib.search.engines import Due, Request, make
from naaplib.search.identity import whole
from naaplib.search.journal import Outcome, attempt
from naaplib.search.search_space import SearchSpace
from naaplib.search.spaces import Suggest, read
from naaplib.search.trials import Trial, incumbents


def by_ask_and_tell(params: Any, n_epochs: int) -> float:
    """Stand for an objective where there is none."""
    raise TypeError("the study has no objective to optimise: give one, or use ask and tell")


class Study:
    """A search, and what it has found; `search` makes one.

    Parameters
    ----------
    space, objective, budget, method, max_epochs, eta, seed, storage, resume, n_jobs, progress, **settings
        As for `search`. Nothing is run before `optimize` or `ask`.

    Attributes
    ----------
    trials : list
        Finished evaluations, in the order proposed.

    Examples
    --------
    Evaluations that run elsewhere, such as on a cluster, by `ask` and `tell`:

    >>> study = Study({"width": range(8, 65)}, budget=60, max_epochs=9, seed=0)
    >>> while (trial := study.ask()) is not None:
    ...     study.tell(trial, 1 - 1 / (trial.n_epochs * trial.params["width"]))
    >>> study.best_params, study.trials_dataframe().shape
    ({'width': 63}, (21, 8))
    """

    def __init__(
        self,
        space: Mapping[str, Iterable[Any]] | Iterable[Sequence[Any]] | SearchSpace | Suggest,
        objective: Callable[[Any, int], float] | None = None,
        *,
        budget: int,
        method: str = "hyperband",
        max_epochs: int = 27,
        eta: int = 3,
        seed: int = 0,
        storage: str | Path | None = None,
        resume: bool | str = True,
        n_jobs: int = 1,
        progress: bool = True,
        **settings: Any,
    ) -> None:
        self.trials: list[Trial] = []
        self.method, self.budget, self.n_jobs = method, whole("budget", budget, least=1), effective_n_jobs(n_jobs)
        self._objective, self._progress = objective, progress
        self._engine = make(
            Request(
                method=method,
                space=read(space),
                objective=by_ask_and_tell if objective is None else objective,
                budget=self.budget,
                max_epochs=whole("max_epochs", max_epochs, least=1),
                eta=whole("eta", eta, least=2),
                seed=whole("seed", seed, least=0),
                storage=None if storage is None else Path(storage).expanduser(),
                resume=resume,
                n_jobs=self.n_jobs,
                settings=settings,
            )
        )
        self._is_open, self._is_over = False, False
        self._due: dict[int, tuple[Trial, Due]] = {}  # by number: proposed, and not finished
        self._outcomes: dict[int, Outcome | None] = {}  # of these, what is known already
        self._to_ask: list[Trial] = []

    def optimize(self) -> Study:
        """Evaluate until the budget is spent, or there is nothing new to evaluate.

        Returns
        -------
        Study
            Itself. `KeyboardInterrupt` stops it; with a storage file, the same call resumes.
        """
        run = delayed(attempt)
        parallel = Parallel(self.n_jobs, prefer="threads", return_as="generator")
        disable = bar_disabled() if self._progress else True
        with self, tqdm(desc=self.method, total=self.budget, unit="epoch", disable=disable) as bar:
            while trials := self._next():
                self._show(bar)
                outcomes = parallel(run(self._objective or by_ask_and_tell, one.params, one.n_epochs) for one in trials)
                for trial, outcome in zip(trials, outcomes, strict=True):
                    self._finish(trial.number, outcome)
                    self._show(bar)
            self._show(bar)
        return self

    def ask(self) -> Trial | None:
        """Return the next evaluation, or None at the end of the search.

        At most `n_jobs` may be asked before they are told, or more where the method can propose more without a score.

        Raises
        ------
        RuntimeError
            If the method needs the values of trials that were asked for before.
        """
        if not self._to_ask and self._due:
            raise RuntimeError(
                f"trials {', '.join(map(str, self._due))} were asked for and not told; tell them first. A study with "
                f"a larger n_jobs has more at a time"
            )
        if not self._to_ask:
            self._to_ask = self._next()
        return self._to_ask.pop(0) if self._to_ask else None

    def tell(self, trial: Trial | int, value: float | None = None) -> None:
        """Record the value of a trial that was asked for; None if it failed."""
        number = trial if isinstance(trial, int) else trial.number
        if number not in self._due or number in self._outcomes:
            raise ValueError(f"trial {number} does not wait for a value; {', '.join(map(str, self._due)) or 'none'} do")
        failed: Outcome = (math.nan, "it was told to have failed", None)
        self._finish(number, failed if value is None else attempt(lambda: value))

    def close(self) -> None:
        """Release the storage file; `optimize` and the end of a search do so."""
        if self._is_open:
            self._engine.__exit__()
            self._is_open = False

    def __enter__(self) -> Study:
        """Lock the storage file."""
        if not self._is_open:
            self._engine.__enter__()
            self._is_open = True
        return self

    def __exit__(self, *_: object) -> None:
        """Release it."""
        self.close()

    def _next(self) -> list[Trial]:
        """Return the trials to evaluate: those of before, or the next; none at the end."""
        if left := [trial for number, (trial, _) in self._due.items() if number not in self._outcomes]:
            self.__enter__()
            return left
        while not self._is_over:
            batch = self.__enter__()._engine.batch()
            self._is_over = not batch
            for number, due in enumerate(batch, start=len(self.trials)):
                self._due[number] = Trial(number, due.params, due.n_epochs), due
                if due.is_known:
                    self._outcomes[number] = None  # the storage has it
            new = [trial for trial, due in self._due.values() if not due.is_known]
            self._flush()
            if new:
                return new
        self.close()
        return []

    def _finish(self, number: int, outcome: Outcome) -> None:
        self._outcomes[number] = outcome
        self._flush()

    def _flush(self) -> None:
        """Record outcomes in the order proposed, as far as they are known."""
        while self._due and (number := next(iter(self._due))) in self._outcomes:
            trial, due = self._due.pop(number)
            value, trial.cost = self._engine.count(due, self._outcomes.pop(number))
            trial.value = value if math.isfinite(value) else math.nan
            trial.state = "COMPLETE" if math.isfinite(value) else "FAIL"
            self.trials.append(trial)

    def _show(self, bar: tqdm) -> None:
        bar.update(sum(one.cost for one in self.trials) - bar.n)
        if any(one.state == "COMPLETE" for one in self.trials):
            bar.set_postfix(best=f"{self.best_value:.4g}")

    @property
    def best_trial(self) -> Trial:
        """Trial with the best value among those that were trained longest."""
        found = [one for one in incumbents(self.trials) if one is not None]
        if not found:
            raise ValueError("no trial has succeeded yet; run the study first, or see trials_dataframe()")
        return found[-1]

    @property
    def best_params(self) -> Any:
        """Configuration of the best trial."""
        return self.best_trial.params

    @property
    def best_value(self) -> float:
        """Value of the best trial."""
        return self.best_trial.value

    def trials_dataframe(self) -> pd.DataFrame:
        """Return the finished trials, one a row.

        Returns
        -------
        DataFrame
            number, state, value, n_epochs, cost (epochs that the trial added), spent (epochs so far), best (value of
            the best trial so far), and params_<name> for each name, or params where configurations are no dicts.
        """
        table = pd.DataFrame({name: [getattr(one, name) for one in self.trials]
                              for name in ("number", "state", "value", "n_epochs", "cost")})  # fmt: skip
        table["spent"] = table["cost"].cumsum()
        table["best"] = [math.nan if one is None else one.value for one in incumbents(self.trials)]
        params = [one.params for one in self.trials]
        if all(isinstance(one, dict) for one in params):
            named = pd.DataFrame(params, index=table.index).add_prefix("params_")
            return pd.concat([table, named], axis=1)
        return table.assign(params=pd.Series(params, dtype=object))

    def trajectory(self) -> pd.DataFrame:
        """Return the best value so far by epochs spent, as `plot_trajectory` draws it.

        Returns
        -------
        DataFrame
            method, spent, value, best; one row a trial.
        """
        table = self.trials_dataframe()
        table.insert(0, "method", self.method)
        return table[["method", "spent", "value", "best"]]

    def plot_trajectory(self) -> Any:
        """Draw the best value so far by epochs spent; return matplotlib's axes."""
        import naaplib  # its lazy table, because drawing is a later package

        return naaplib.plot_trajectory(self.trajectory())


def search(
    space: Mapping[str, Iterable[Any]] | Iterable[Sequence[Any]] | SearchSpace | Suggest,
    objective: Callable[[Any, int], float],
    *,
    budget: int,
    method: str = "hyperband",
    max_epochs: int = 27,
    eta: int = 3,
    seed: int = 0,
    storage: str | Path | None = None,
    resume: bool | str = True,
    n_jobs: int = 1,
    progress: bool = True,
    **settings: Any,
) -> Study:
    """Search a space for the configuration with the highest value, within a budget.

    Parameters
    ----------
    space : dict, list of encodings, SearchSpace, or callable
        As `.spaces.read` reads it: options by name, such as ``{"rate": [0.1, 0.01], "width": range(8, 65)}``.
    objective : callable
        Maps a configuration and a number of epochs to a value; higher is better. It may resume a shorter training of
        the configuration, and the budget counts as if it did. If it raises an exception, or returns NaN or infinity,
        the trial has failed: it is recorded with its cost, and the search continues.
    budget : int
        Epochs of the whole search, earlier runs from the storage included.
    method : {"random", "halving", "hyperband", "bohb", "tuning"}
        - "random": different configurations, `max_epochs` each
        - "halving": successive halving; setting: rungs, pairs of number of configurations and epochs
        - "hyperband": HyperBand (Li et al. 2018)
        - "bohb": BOHB (Falkner et al. 2018), which needs the extra ``search``; settings: random_share, min_points
        - "tuning": Bayesian optimisation by a deep ensemble (Ouertatani et al. 2024); settings: cheap_epochs, of a
          short training, and those of `.tuning.Settings`. The space must have a list.
    max_epochs : int
        Epochs of a full training.
    eta : int
        One configuration in `eta` is trained on, for `eta` times the epochs. Short trainings of "tuning" have
        max_epochs / eta² epochs, by default.
    seed : int
    storage : path, optional
        File, ending in ".jsonl", of finished evaluations. The same call resumes from it, perhaps with a larger budget;
        a change of the space, the objective or a setting is refused, and named.
    resume : bool or "retry"
        Treatment of an existing file. False: start again, and rename the file. "retry": resume although the code of
        the objective was fixed, and evaluate the failures again.
    n_jobs : int
        Parallel evaluations, in threads; -1 takes all cores. With ``joblib.parallel_config`` they run as processes or
        on a cluster. It has no effect on the trials proposed, except by "bohb".
    progress : bool
        True shows a progress bar, on a terminal.
    **settings
        Settings of the method.

    Returns
    -------
    Study
        best_params, best_value, trials_dataframe(), trajectory(), plot_trajectory().

    Raises
    ------
    ValueError
        If an argument is out of range, or the storage file is of another search. The message says how they differ.
    ImportError
        If a library is missing; the message names the extra that brings it.
    RuntimeError
        If the first three evaluations of a number of epochs fail by the same kind of exception.
    naaplib.training.checkpoints.FolderInUse
        If another search is using the storage file.

    Examples
    --------
    >>> def accuracy(params, n_epochs):
    ...     return 1 - 1 / (n_epochs * params["rate"] * params["width"])  # yours: train, return validation accuracy
    >>> study = search({"rate": [0.01, 0.1], "width": range(8, 65)}, accuracy, budget=100, max_epochs=9, seed=0)
    >>> study.best_params
    {'rate': 0.1, 'width': 61}
    """
    return Study(
        space, objective, budget=budget, method=method, max_epochs=max_epochs, eta=eta, seed=seed, storage=storage,
        resume=resume, n_jobs=n_jobs, progress=progress, **settings,
    ).optimize()  # fmt: skip
