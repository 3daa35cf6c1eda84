"""Threads and progress bars for long computations."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def bar_disabled() -> bool | None:
    """Return tqdm's `disable` flag: show a bar on a terminal, or on request.

    `naaplib.compendium.run` sets ``NAAPLIB_PROGRESS`` for a notebook when it can show what the notebook writes.

    Returns
    -------
    bool or None
        False shows a bar everywhere; None shows it on terminals only.
    """
    return False if os.environ.get("NAAPLIB_PROGRESS") else None


@contextmanager
def one_thread(device: str | torch.device = "cpu") -> Iterator[None]:
    """Run torch with one thread on a CPU; sums depend on the number of threads.

    Parameters
    ----------
    device : str or torch.device
        On other devices than the CPU, the context does nothing.
    """
    n_threads = torch.get_num_threads()
    if torch.device(device).type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
