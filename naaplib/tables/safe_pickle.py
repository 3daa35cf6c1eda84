"""Read pickles of plain data without running code from them."""

from __future__ import annotations

import bz2
import math
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

NUMBERS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
OBJECTS = "O8"


def read_object_array(path: Path) -> np.ndarray:
    """Read an array of Python objects that `numpy.save` wrote.

    A pickle is a program: it names functions, which the reader calls. Here it may name only the few that make arrays
    and scalars of numbers, and gets substitutes that build nothing else. Numpy's own functions would not be safe: a
    pickle can make them use arbitrary bytes as addresses of objects.

    Parameters
    ----------
    path : Path
        File in the ``.npy`` format.

    Returns
    -------
    ndarray of object, of the shape that the file states
        Elements are numbers, text, bytes, None, lists, tuples, dictionaries, and numpy's arrays or scalars of numbers.

    Raises
    ------
    ValueError
        If the file has another format, is cut short, has bytes after its end, holds another kind of array, or its
        pickle names anything else; the message names the reason. In this case, nothing that the pickle names was
        called.
    """
    with Path(path).open("rb") as stream:
        try:
            version = np.lib.format.read_magic(stream)
            read_header = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }[version]
            shape, _, dtype = read_header(stream)
        except (ValueError, KeyError):
            raise ValueError(f"{path} is not a whole file of numpy's format .npy; fetch it again") from None
        if not dtype.hasobject or dtype.names:
            raise ValueError(f"{path} is an array of {dtype}, not of objects; numpy.load reads it")
        array = _load(stream, path)
        if not isinstance(array, np.ndarray) or array.dtype != object or array.shape != shape or stream.read(1):
            raise ValueError(f"{path} does not hold the array that its header describes, of {shape} objects, alone")
    return array.view(np.ndarray)


def read_bz2_pickle(path: Path) -> object:
    """Read a pickle of plain data that is compressed by bzip2.

    Parameters
    ----------
    path : Path
        File as in ``name.pickle.pbz2``.

    Returns
    -------
    object
        Numbers, text, bytes, None, lists, tuples, sets, dictionaries (also for ordered ones), and numpy's arrays or
        scalars of numbers.

    Raises
    ------
    ValueError
        As for `read_object_array`.
    """
    with bz2.open(path) as stream:
        return _load(stream, path)


def _load(stream: IO[bytes], path: Path) -> object:
    try:
        return _Unpickler(stream).load()
    except _RefusedError as refused:
        raise ValueError(
            f"{path} is not read: its pickle asks for {refused}, and only arrays and scalars of numbers are "
            f"admitted. Nothing was executed; do not open it by other means unless you know who made it."
        ) from None
    except Exception as error:  # a damaged pickle can fail in any way
        raise ValueError(f"{path} is cut short or damaged ({type(error).__name__}: {error}); fetch it again") from None


class _RefusedError(Exception):
    """A request of a pickle for something that it may not use."""


class _Unpickler(pickle.Unpickler):
    """Give a pickle substitutes, as bound methods, which it cannot change."""

    def find_class(self, module: str, name: str) -> object:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray"):  # before and since numpy 2
            module = "numpy"
        given = {
            ("numpy", "ndarray"): None,  # an argument of _reconstruct; never called
            ("numpy", "_reconstruct"): self._make_array,
            ("numpy", "dtype"): self._make_dtype,
            ("numpy", "scalar"): self._make_scalar,
            ("_codecs", "encode"): self._encode,  # protocol 2 writes bytes with it
            ("collections", "OrderedDict"): self._make_dictionary,
        }
        if (module, name) not in given:
            raise _RefusedError(f"{module}.{name}")
        return given[module, name]

    def persistent_load(self, pid: object) -> object:
        raise _RefusedError(f"the object {pid!r} outside the file")

    def _make_array(self, subtype: None, shape: tuple[int, ...], code: bytes) -> _Array:
        return np.empty(0, np.uint8).view(_Array)  # its state is set later

    def _make_dtype(self, code: str, align: bool = False, copy: bool = True) -> _Dtype:
        if code not in (*NUMBERS, OBJECTS):
            raise _RefusedError(f"the dtype {code!r}")
        return _Dtype(np.dtype(code))

    def _make_scalar(self, kind: _Dtype, data: bytes) -> np.generic:
        if kind.dtype == object or len(data) != kind.dtype.itemsize:
            raise ValueError("the bytes of a number are not of its dtype")
        return np.frombuffer(data, kind.dtype)[0]

    def _make_dictionary(self, items: Sequence = ()) -> dict:
        return dict(items)  # mostly none: a pickle sets them later

    def _encode(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise _RefusedError(f"the encoding {encoding!r}")
        return text.encode("latin1")


class _Dtype:
    """A dtype; a pickle sets only its byte order."""

    def __init__(self, dtype: np.dtype) -> None:
        self.dtype = dtype

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(">" if state[1] == ">" else "<")


class _Array(np.ndarray):
    """An array; a pickle sets its contents, from bytes or a list of objects.

    Numpy checks the number of bytes, but reads past the end of a short list.
    """

    def __setstate__(self, state: tuple) -> None:
        version, shape, kind, fortran, data = state
        if kind.dtype == object:
            sound = isinstance(data, list) and min(shape, default=0) >= 0 and len(data) == math.prod(shape)
        else:
            sound = isinstance(data, bytes)
        if not sound:
            raise ValueError("the contents of an array are not of its dtype and shape")
        super().__setstate__((version, shape, kind.dtype, fortran, data))
