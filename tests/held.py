"""A folder of checkpoints in the hands of another process, for tests of what two runs do to each other."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOLDER = """
import sys
from filelock import FileLock

lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def held(folder: Path) -> Iterator[subprocess.Popen]:
    """A context in which another process, which it yields, has claimed the folder (it spares itself torch)."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", HOLDER, str(folder / "in-use.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        try:
            yield holder
        finally:
            holder.stdin.close()
