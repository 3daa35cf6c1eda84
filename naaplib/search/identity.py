"""Identity of a search: its arguments as JSON, and the code of its evaluations."""

from __future__ import annotations

import ast
import copy
import functools
import hashlib
import inspect
import json
import linecache
import operator
import sys
import sysconfig
from collections.abc import Iterator, Mapping, MutableMapping, MutableSequence, MutableSet, Sized
from dataclasses import fields, is_dataclass
from numbers import Real
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
_CHANGEABLE = MutableMapping | MutableSequence | MutableSet
_NOTHING = object()
_FILLING = {*dir(list), *dir(dict), *dir(set)} - {*dir(tuple), *dir(frozenset), "get", "items", "keys", "values"}
LONG = 200  # characters; the digest stands for a longer value


def plain(value: Any) -> Any:
    """Convert a value to JSON's types; numpy's numbers and arrays become Python's.

    Raises
    ------
    TypeError
        If JSON cannot hold it.

    Examples
    --------
    >>> plain({"widths": np.arange(8, 25, 8), "rate": (0.1, None)})
    {'widths': [8, 16, 24], 'rate': [0.1, None]}
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, Mapping) and all(isinstance(plain(key), bool | int | float | str | None) for key in value):
        return {plain(key): plain(part) for key, part in value.items()}
    raise TypeError(
        f"{value!r} is a {type(value).__name__}, which JSON cannot hold; use numbers, text, True, False, None, and "
        f"tuples, lists or dicts of these"
    )


def name_of(configuration: Any) -> str:
    """Return the JSON of a configuration, which identifies it, or raise TypeError."""
    try:
        return json.dumps(plain(configuration))
    except TypeError as error:
        raise TypeError(f"suggest returned the configuration {configuration!r}: {error}") from None


def whole(name: str, value: Any, *, least: int | None = None) -> int:
    """Return a whole number as an int: 3.0 and numpy's 3 are 3.

    Raises
    ------
    ValueError
        If it is not a whole number, or below `least`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        if not (isinstance(value, Real) and float(value).is_integer()):
            at_least = "" if least is None else f", at least {least}"
            raise ValueError(f"{name} is {value}; it must be a whole number{at_least}") from None
        number = int(float(value))
    if least is not None and number < least:
        raise ValueError(f"{name} is {number}; it must be at least {least}")
    return number


def differences(there: Mapping[str, Any], here: Mapping[str, Any], *, within: str = "") -> list[str]:
    """Describe in sentences where two nested mappings differ, with both values.

    The sentence quotes the first lines that differ in two texts.
    """
    found = []
    for key in sorted(there.keys() | here.keys()):
        pair = there.get(key, _NOTHING), here.get(key, _NOTHING)
        if all(isinstance(one, Mapping) for one in pair):
            found += differences(*pair, within=f"{within}{key}, ")
        elif _NOTHING in pair or json.dumps(pair[0]) != json.dumps(pair[1]):
            if all(isinstance(one, str) for one in pair):
                lines: list[list[Any]] = [one.splitlines() or [""] for one in pair]
                row = next((i for i, same in enumerate(map(operator.eq, *lines)) if not same), min(map(len, lines)))
                pair = (lines[0] + [_NOTHING])[row], (lines[1] + [_NOTHING])[row]
            first = (one.partition("\n")[0] if isinstance(one, str) else one for one in pair)
            old, new = ("missing" if one is _NOTHING else repr(one) for one in first)
            found.append(f"{within}{key} is {old} there and {new} here")
    return found


def describe(**evaluators: Any) -> dict[str, dict[str, Any]]:
    """Return the user's own code of functions, methods or callable objects.

    It includes the functions, classes and methods that they name, if these lie in the same module, or in a module that
    is neither installed nor this library's. Comments, docstrings and layout do not count. Attributes, lists and dicts
    that the code itself assigns or fills are state and do not count either.

    Parameters
    ----------
    **evaluators
        Each under its name in the search, as in ``evaluate=accuracy``.

    Returns
    -------
    dict
        code: each function's source by name, or its bytecode where there is no source. values: numbers, texts, and
        collections of these that the code takes from outside; the kind and length of other things.
    """
    walk = _Walk(evaluators.values())
    for name, one in evaluators.items():
        walk.values["", name] = getattr(one, "__qualname__", type(one).__qualname__)
        walk.use(name, one, frozenset())
    return {"code": walk.code, "values": walk.constants()}


class _Walk:
    """Visit functions and everything that they use, each once."""

    def __init__(self, roots: Any) -> None:
        self.code: dict[str, str] = {}
        self.values: dict[tuple[str, str], Any] = {}  # by owner and name
        self.state: set[str] = set()
        self.seen: set[tuple[object, ...]] = set()
        self.homes = {_module(one) for one in roots}

    def constants(self) -> dict[str, Any]:
        """Return the values that the code does not assign."""
        kept = {owner + name: value for (owner, name), value in self.values.items()
                if not (owner.endswith(".") and name in self.state)}  # fmt: skip
        return {key: _short(value) for key, value in kept.items()}

    def use(self, name: str, thing: Any, names: frozenset[str], owner: str = "") -> None:
        """Visit what code or `owner` calls `name`, whose attributes `names` it uses."""
        mark = (id(thing), names) if not isinstance(thing, FunctionType) else (thing,)
        if (value := _constant(thing)) is not _NOTHING:
            self.values[owner, name] = value
            return
        if isinstance(thing, Sized) and not isinstance(thing, type | _CHANGEABLE) and not self.is_own(thing):
            shape = tuple(thing.shape) if hasattr(thing, "shape") else (len(thing),)
            self.values[owner, name] = f"{type(thing).__name__} {'x'.join(map(str, shape))}"
        if mark in self.seen:
            return
        self.seen.add(mark)
        if isinstance(thing, functools.partial):
            for part in ({"": thing.func}, {str(i): one for i, one in enumerate(thing.args)}, thing.keywords):
                for key, one in part.items():
                    self.use(f"{name} {key}".strip(), one, frozenset())
        elif inspect.ismethod(thing):
            self.function(thing.__func__, thing.__self__)  # type: ignore[arg-type]
        elif isinstance(thing, FunctionType):
            self.function(thing)
        elif hasattr(thing, "__wrapped__"):  # as functools.cache leaves it
            self.use(name, thing.__wrapped__, names)
        elif isinstance(thing, ModuleType | type):
            self.members(thing, names if isinstance(thing, ModuleType) else frozenset(vars(thing)))
        elif is_dataclass(thing) and getattr(type(thing), "__dataclass_params__").frozen:  # noqa: B009 - types do not declare it
            self.members(thing, names)
            for field in fields(thing):
                if field.compare:
                    self.use(field.name, getattr(thing, field.name), frozenset(), f"{type(thing).__name__}.")
        elif not isinstance(thing, _CHANGEABLE):
            self.members(thing, names)

    def members(self, thing: Any, names: frozenset[str]) -> None:
        """Visit attributes of a module, a class or an object."""
        if not self.is_own(thing):
            return
        names = names if isinstance(thing, ModuleType | type) else names | {"__call__"}
        kind = thing if isinstance(thing, type) else type(thing)
        own = {} if isinstance(thing, type) else getattr(thing, "__dict__", {})
        unequal = {field.name for field in fields(kind) if not field.compare} if is_dataclass(kind) else set()
        for name in sorted(names - unequal):
            if name in own:
                self.use(name, own[name], names, "" if isinstance(thing, ModuleType) else f"{kind.__name__}.")
            for base in () if isinstance(thing, ModuleType) else kind.__mro__:
                found = vars(base).get(name, self)
                found = (
                    getattr(found, "fget", None) or getattr(found, "func", None) or getattr(found, "__func__", found)
                )
                if isinstance(found, FunctionType):
                    self.function(found, thing)
                elif found is not self and name not in own and not name.startswith("__") and self.is_own(base):
                    self.use(name, found, frozenset(), f"{base.__name__}.")

    def function(self, function: FunctionType, owner: Any = None) -> None:
        """Visit a function; `owner` is the object whose method it is."""
        if not self.is_own(function) or (mark := (function, id(owner))) in self.seen:
            return
        self.seen.add(mark)
        code = function.__code__
        text, state, names = _source(code)
        key, number = function.__qualname__, 1
        while self.code.setdefault(key, text) != text:
            number += 1
            key = f"{function.__qualname__} ({number})"
        self.state |= state
        if owner is not None:
            self.members(owner, names)
        outside = {name: function.__globals__[name] for name in sorted(names) if name in function.__globals__}
        cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
        outside |= {name: cell.cell_contents for name, cell in cells if _is_filled(cell)}
        outside |= {f"default {i}": one for i, one in enumerate(function.__defaults__ or ())}
        outside |= {f"default {name}": one for name, one in (function.__kwdefaults__ or {}).items()}
        for name, one in outside.items():
            if name not in state:
                self.use(name, one, names, f"{key}: ")

    def is_own(self, thing: Any) -> bool:
        """Return True for code of an evaluation's module, or of no library."""
        name = _module(thing)
        if name in self.homes or name == "__main__":
            return True
        file = getattr(sys.modules.get(name), "__file__", None)
        return bool(file) and name.partition(".")[0] != "naaplib" and not str(file).startswith(_INSTALLED)


def _short(value: Any) -> Any:
    """Return a value, or the digest of a long one."""
    text = json.dumps(value)
    return (
        value if len(text) <= LONG else f"of {len(text)} characters, {hashlib.sha256(text.encode()).hexdigest()[:16]}"
    )


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not _NOTHING
    except ValueError:
        return False


def _module(thing: Any) -> str:
    """Return the name of a thing's module, or of its type's."""
    if isinstance(thing, functools.partial):
        return _module(thing.func)
    if isinstance(thing, ModuleType):
        return thing.__name__
    return str(getattr(thing, "__module__", None) or type(thing).__module__)


def _constant(thing: Any) -> Any:
    """Return the JSON of a value, `_NOTHING` for what JSON cannot hold."""
    if isinstance(thing, set | frozenset):
        thing = tuple(sorted(thing, key=repr))
    if isinstance(thing, np.ndarray):
        return _NOTHING
    try:
        return plain(thing)
    except TypeError:
        return _NOTHING


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for one in code.co_consts:
        if isinstance(one, CodeType):
            yield from _codes(one)


@functools.lru_cache(maxsize=1000)
def _source(code: CodeType) -> tuple[str, frozenset[str], frozenset[str]]:
    """Return a function's bare source, its assignments outside itself, its names."""
    names = frozenset(name for one in _codes(code) for name in one.co_names)
    node = _node(code)
    if node is None:
        parts = [[one.co_code.hex(), one.co_names, [repr(c) for c in one.co_consts if not isinstance(c, CodeType)]]
                 for one in _codes(code)]  # fmt: skip
        return json.dumps(parts), frozenset(), names
    state: set[str] = set()
    node = copy.deepcopy(node)
    for one in ast.walk(node):
        if isinstance(one, ast.Global | ast.Nonlocal):
            state |= set(one.names)
        elif isinstance(one, ast.Attribute) and not isinstance(one.ctx, ast.Load):
            state.add(one.attr)
        elif isinstance(one, ast.Subscript) and not isinstance(one.ctx, ast.Load):
            state |= {getattr(one.value, "id", ""), getattr(one.value, "attr", "")}
        elif isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and one.func.attr in _FILLING:
            state |= {getattr(one.func.value, "id", ""), getattr(one.func.value, "attr", "")}
        elif (
            isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and ast.get_docstring(one) is not None
        ):
            one.body = one.body[1:] or [ast.Pass()]
    return ast.unparse(node), frozenset(state), names


def _node(code: CodeType) -> ast.AST | None:
    """Return the syntax tree of a code object's function, if its file has one."""
    linecache.checkcache(code.co_filename)
    try:
        tree = ast.parse("".join(linecache.getlines(code.co_filename)))
    except SyntaxError:
        return None
    found: list[tuple[tuple[int, int], ast.AST]] = []
    for node in ast.walk(tree):
        if not isinstance(node, _FUNCTIONS) or getattr(node, "name", "<lambda>") != code.co_name:
            continue
        if min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))]) != code.co_firstlineno:
            continue
        if not isinstance(node, ast.Lambda):
            return node
        if _lies_within(code, node.body):
            found.append(((-node.lineno, -node.col_offset), node))
    return min(found, key=lambda one: one[0])[1] if found else None  # the innermost of nested lambdas


def _lies_within(code: CodeType, body: ast.expr) -> bool:
    """Return True if an expression holds all the code of a lambda."""
    first, last = (body.lineno, body.col_offset), (body.end_lineno or 0, body.end_col_offset or 0)
    known = [place for place in code.co_positions() if None not in place]
    places = [place for place in known if (place[0], place[2]) != (place[1], place[3])]
    return all(first <= (row, column) and (end, last_column) <= last for row, end, column, last_column in places)
