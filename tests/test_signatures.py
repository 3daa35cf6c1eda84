"""Arguments by their names: faults of the library are listed, and the list may only shrink."""

import ast

import signatures


def test_no_new_fault() -> None:
    """A public function has at most two positional arguments, and no call gives more than four."""
    new = sorted(set(signatures.faults()) - set(signatures.LIST.read_text().split("\n")))
    assert new == [], "put * after the second argument, and names into the call"


def test_the_list_shrinks() -> None:
    """What is mended leaves the list, and cannot come back."""
    listed = signatures.LIST.read_text().splitlines()
    gone = sorted(set(listed) - set(signatures.faults()))
    assert gone == [], f"remove these lines from {signatures.LIST.name}"
    assert listed == sorted(set(listed))


def test_faults_are_found() -> None:
    """Three positional arguments, in a function or a method; private ones and keywords are free; a call with five."""
    text = """
def one(a, b, c): ...
def two(a, b, *, c): ...
def _three(a, b, c): ...
class Four:
    def __init__(self, a, b): ...
    def five(self, a, b, c=1): ...
class _Six:
    def seven(self, a, b, c): ...
"""
    assert signatures.functions(ast.parse(text)) == ["one()", "Four.five()"]
    assert signatures.calls(ast.parse("f.g(1, 2, 3, 4, 5)\nh(1, 2, 3, 4, x=5)")) == {"call of f.g"}
