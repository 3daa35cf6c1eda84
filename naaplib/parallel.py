"""Threads and progress bars, as every long computation wants them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def bar_disabled() -> bool | None:
    """What tqdm is told: None, which is a bar on terminals only, unless a terminal further out asks for one.

    `naaplib.compendium.run` sets ``NAAPLIB_PROGRESS`` for a notebook when it can show what the notebook writes.
    """
    return False if os.environ.get("NAAPLIB_PROGRESS") else None


@contextmanager
def one_thread(device: str | torch.device = "cpu") -> Iterator[None]:
    """On a CPU one thread for torch while the context lasts: sums differ in their last bits with their number."""
    n_threads = torch.get_num_threads()
    if torch.device(device).type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
