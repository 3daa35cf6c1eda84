import json
import operator
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest

from naaplib.training import torchrun


def of_a_script(rank: int) -> float:
    """What the tests take for a function of the script that is run."""
    return float(rank)


def test_a_failed_process_says_why() -> None:
    """The error's own message is in the message, beyond the launcher's."""
    with pytest.raises(
        RuntimeError, match=r"(?s)^one of 1 process\(es\) failed.*TypeError: the JSON object must be str"
    ):
        torchrun.call(json.loads, 1)


def test_what_others_cannot_import_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Local functions, and those of the script that is run, wherever they are; partial ones of modules are fine."""
    message = "processes cannot be given this: .*move them into a file of their own and import them from there"
    local: Callable[[int], float] = lambda rank: float(rank)  # noqa: E731 - a lambda is what is tested
    monkeypatch.setattr(of_a_script, "__module__", "__main__")
    for function, reason in {local: "lambda", of_a_script: "of_a_script is defined in the script or notebook"}.items():
        for content in (function, {"deep": [partial(function)]}):
            with pytest.raises(ValueError, match=message) as caught:
                torchrun.pack(content)
            assert reason in str(caught.value)
    assert torchrun.pack(partial(operator.mul, 2.0))


def test_processes_end_with_the_one_that_asked() -> None:
    """Also where it is killed: one that waits for a process that is there goes on, and ends when that does."""
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    program = "import sys; from naaplib.training import torchrun; print(); torchrun.PAUSE = 0.01; torchrun.end_with({})"
    waiting = subprocess.Popen([sys.executable, "-u", "-c", program.format(other.pid)], stdout=subprocess.PIPE)
    try:
        assert waiting.stdout is not None and waiting.stdout.readline() == b"\n"
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(0.2)
        other.kill()
        other.wait()
        assert waiting.wait(30) == 1
    finally:
        for process in (waiting, other):
            process.kill()
            process.communicate()
