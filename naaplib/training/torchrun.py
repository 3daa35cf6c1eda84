"""Call a function in several processes of this machine at once, by torchrun.

torch.distributed connects them.
"""

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

LAST_LINES = 40  # lines of failed processes' output in the error message
PAUSE = 2.0  # seconds between checks for the parent process


def call(function: Callable[[int], float], n_processes: int, *, on_gpus: bool = False) -> float:
    """Call a function in several processes and return the first one's result.

    The function is pickled into a temporary folder that only this user can read and that is removed afterwards. Its
    data, such as images in memory, are written there; functions and classes are pickled by name.

    Parameters
    ----------
    function : callable
        Function of the process's number, from 0. The processes form torch's default group during the call.
    n_processes : int
    on_gpus : bool
        True gives each process the GPU of its number and uses NCCL; false uses Gloo.

    Raises
    ------
    ValueError
        As in `pack`.
    RuntimeError
        If one of the processes failed. The others are terminated, and the message has the last lines of output.
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
                process.terminate()  # not killed, so that it can terminate its children
                raise
        if process.returncode:
            last = "\n".join(said.splitlines()[-LAST_LINES:])
            raise RuntimeError(f"one of {n_processes} process(es) failed; this is what was written last:\n{last}")
        return float(result.read_text())


def pack(content: Any) -> bytes:
    """Pickle for other processes of this user; refuse objects that they cannot import.

    Raises
    ------
    ValueError
        If a function or class is not importable: defined in the main script, in a notebook, or locally.
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
        """Check each function and class, which are pickled by module and name."""
        if isinstance(thing, type | FunctionType) and thing.__module__ == "__main__":
            raise pickle.PicklingError(f"{thing.__qualname__} is defined in the script or notebook that is run")
        return NotImplemented


def end_with(asker: int) -> None:
    """Exit when the parent process `asker` dies.

    A killed parent cannot terminate its own children.
    """
    while True:
        try:
            os.kill(asker, 0)  # raises if the process does not exist
        except ProcessLookupError:
            os._exit(1)
        time.sleep(PAUSE)


@record
def main(job: str, result: str) -> None:
    """Run the function of `call` in one of torchrun's processes."""
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
