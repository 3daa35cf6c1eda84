"""Arguments by their names."""

import ast

import signatures


def test_arguments_have_names() -> None:
    """A public function has at most two positional arguments, and no call gives more than four."""
    found = set(signatures.faults())
    assert sorted(found - signatures.FORCED) == [], "put * after the second argument, and names into the call"
    assert sorted(signatures.FORCED - found) == [], "remove these from what is forced"


def test_faults_are_found() -> None:
    """Three positional arguments of a function or method, not of private ones and kernels; a call with five."""
    text = """
def one(a, b, c): ...
def two(a, b, *, c): ...
def _three(a, b, c): ...
class Four:
    def __init__(self, a, b): ...
    def five(self, a, b, c=1): ...
class _Six:
    def seven(self, a, b, c): ...
@jit
def eight(a, b, c): ...
"""
    assert signatures.functions(ast.parse(text)) == ["one()", "Four.five()"]
    assert signatures.calls(ast.parse("f.g(1, 2, 3, 4, 5)\nh(1, 2, 3, 4, x=5)")) == {"call of f.g"}
