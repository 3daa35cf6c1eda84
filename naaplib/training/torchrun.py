"""A function called by several processes of this machine at once, which torchrun starts and torch.distributed joins."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FunctionType
from typing import Any

import torch
from torch import distributed
from torch.distributed.elastic.multiprocessing.errors import record

LAST_LINES = 40  # of what failed processes wrote, in the error message
PAUSE = 2.0  # seconds between looks whether who asked is still there


def call(function: Callable[[int], float], n_processes: int, on_gpus: bool = False) -> float:
    """What a function returns in the first of several processes, each of which calls it.

    It is handed over pickled, in a temporary folder that only this user can read and that is removed afterwards: what
    it holds, such as images in memory, is written there, and functions and classes go by their names.

    Parameters
    ----------
    function : callable
        Of the process's number, from 0. The processes form torch's default group while it runs.
    n_processes : int
    on_gpus : bool
        Give each process the GPU of its number, and let them talk by NCCL; else by Gloo.

    Raises
    ------
    ValueError
        As `pack` does.
    RuntimeError
        If one of the processes failed: the others are ended, and the message has the last lines that were written.
    """
    with TemporaryDirectory() as folder:
        job, result = Path(folder) / "job", Path(folder) / "result"
        job.write_bytes(pack((function, on_gpus, os.getpid())))
        launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_processes}"]
        path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
        with subprocess.Popen(
            [sys.executable, *launcher, "-m", __name__, str(job), str(result)],
            env=os.environ | {"PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                said, _ = process.communicate()
            except BaseException:
                process.terminate()  # not killed: it is to end what it has started
                raise
        if process.returncode:
            last = "\n".join(said.splitlines()[-LAST_LINES:])
            raise RuntimeError(f"one of {n_processes} process(es) failed; this is what was written last:\n{last}")
        return float(result.read_text())


def pack(content: Any) -> bytes:
    """Pickle for other processes of this user, refusing what they could not import.

    Raises
    ------
    ValueError
        If something is of a function or class that is of no module: of the script that is run, of a notebook, or local.
    """
    buffer = io.BytesIO()
    try:
        _Pickler(buffer).dump(content)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"other processes cannot be given this: {error}. For several processes, functions and classes must be of "
            f"modules: move them into a file of their own and import them from there"
        ) from error
    return buffer.getvalue()


class _Pickler(pickle.Pickler):
    def reducer_override(self, thing: Any) -> Any:
        """Asked for each function and class, which are pickled as the names of their module and of themselves."""
        if isinstance(thing, type | FunctionType) and thing.__module__ == "__main__":
            raise pickle.PicklingError(f"{thing.__qualname__} is defined in the script or notebook that is run")
        return NotImplemented


def end_with(asker: int) -> None:
    """Leave this process once another is no more, by its number: killed, that one could not end what it had started."""
    while True:
        try:
            os.kill(asker, 0)  # asks whether it exists
        except ProcessLookupError:
            os._exit(1)
        time.sleep(PAUSE)


@record
def main(job: str, result: str) -> None:
    """Do as one of torchrun's processes what `call` asks for."""
    function, on_gpus, asker = pickle.loads(Path(job).read_bytes())
    threading.Thread(target=end_with, args=[asker], daemon=True).start()
    rank = int(os.environ["LOCAL_RANK"])
    if on_gpus:
        torch.cuda.set_device(rank)
    distributed.init_process_group("nccl" if on_gpus else "gloo")
    value = function(rank)
    if rank == 0:
        Path(result).write_text(repr(float(value)))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
