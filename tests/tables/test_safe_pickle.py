"""Pickled arrays: what numpy writes is read back; what a hostile or damaged file asks for is refused, unexecuted."""

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from naaplib.tables.safe_pickle import read_object_array

ARRAY = b"\x80\x03cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01"
OBJECT = b"cnumpy\ndtype\nX\x02\x00\x00\x00O8K\x00K\x01\x87R"
NO_FLAGS = b"(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"  # "not of objects after all"
ONE, MANY = b"K\x01\x85", b"M\x00\x40\x85"
ADDRESS, LIST_OF_ONE = b"C\x08AAAAAAAA", b"]K\x01a"


def write(path: Path, payload: bytes, shape: tuple[int, ...] = (1,), descr: str = "|O") -> Path:
    """A .npy file with that header, then `payload`, whatever it is."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    path.write_bytes(stream.getvalue() + payload)
    return path


@pytest.fixture
def made() -> np.ndarray:
    """Objects as the public files hold them, and the further kinds that are admitted."""
    array = np.empty(3, dtype=object)
    array[0] = {"arch": tuple(np.array([1, 6, 0])), "val_acc": 0.25, "test_acc": np.float32(0.5)}
    array[1] = [None, True, b"\xff", "text", np.array([3], ">i2")[0]]
    array[2] = {"numbers": np.arange(6.0).reshape(2, 3).T, "objects": np.array(["object", 1, None], dtype=object)}
    return array


def check(actual: np.ndarray, made: np.ndarray) -> None:
    """The same values of the same types."""
    assert (type(actual), actual.dtype, actual.shape) == (np.ndarray, np.dtype(object), (3,))
    assert actual[:2].tolist() == made[:2].tolist()
    numbers = [*actual[0]["arch"], actual[0]["test_acc"], actual[1][-1]]
    assert [number.dtype.str for number in numbers] == ["<i8", "<i8", "<i8", "<f4", "<i2"]
    assert actual[2]["numbers"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert actual[2]["objects"].tolist() == ["object", 1, None]


def test_what_numpy_saves_is_read_back(made: np.ndarray, tmp_path: Path) -> None:
    """Dictionaries, lists, text, scalars, and arrays within."""
    np.save(tmp_path / "a.npy", made, allow_pickle=True)
    check(read_object_array(tmp_path / "a.npy"), made)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_older_protocols_are_read_too(protocol: int, made: np.ndarray, tmp_path: Path) -> None:
    """Those that numpy has written with over the years."""
    check(read_object_array(write(tmp_path / "a.npy", pickle.dumps(made, protocol), (3,))), made)


class Hostile:
    """Pickles as the call of a function."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_malicious_pickle_is_refused_and_does_nothing(protocol: int, tmp_path: Path) -> None:
    """A file that would make another one, deep within an array: the message names the function."""
    target = tmp_path / "made-by-the-pickle"
    array = np.empty(1, dtype=object)
    array[0] = {"arch": (1, 2), "val_acc": Hostile(os.mkdir, str(target))}
    path = write(tmp_path / "a.npy", pickle.dumps(array, protocol))
    with pytest.raises(ValueError, match=rf"a.npy is not read: its pickle asks for {os.name}.mkdir, and only arrays"):
        read_object_array(path)
    assert not target.exists()
    np.load(path, allow_pickle=True)
    assert target.exists()  # or the test would show nothing


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        (pickle.dumps(Hostile(eval, "1")), "builtins.eval"),
        (b"cnumpy\nload\n.", "numpy.load"),
        (b"cnumpy.core.multiarray\nfromfile\n.", "numpy.fromfile"),
        (b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x04\x00\x00\x00eviltR.", "the encoding 'evil'"),
        (b"cnumpy\ndtype\nX\x02\x00\x00\x00V8\x85R.", "the dtype 'V8'"),
        (b"Pfile\n.", "the object 'file' outside the file"),
    ],
)
def test_whatever_else_a_pickle_asks_for_is_named(payload: bytes, name: str, tmp_path: Path) -> None:
    """Other functions, numpy's own among them, codecs, dtypes, persistent objects."""
    with pytest.raises(ValueError, match=f"its pickle asks for {name}, and only arrays"):
        read_object_array(write(tmp_path / "a.npy", payload))


@pytest.mark.parametrize(
    "payload",
    [
        ARRAY + ONE + OBJECT + NO_FLAGS + b"\x89" + ADDRESS + b"tb.",
        ARRAY + ONE + OBJECT + b"\x89" + ADDRESS + b"tb.",
        ARRAY + MANY + OBJECT + b"\x89" + LIST_OF_ONE + b"tb.",
        b"cnumpy\nndarray\n(K\x01\x85X\x01\x00\x00\x00Ot\x52.",
    ],
    ids=["a dtype that hides its objects", "bytes for objects", "a list too short", "a call of ndarray"],
)
def test_arrays_that_would_crash_numpy_are_refused(payload: bytes, tmp_path: Path) -> None:
    """Bytes taken for addresses of objects, and reading past a list: with numpy's own functions Python itself dies."""
    with pytest.raises(ValueError, match=r"a.npy is cut short or damaged \(\w+Error: .*\); fetch it again"):
        read_object_array(write(tmp_path / "a.npy", payload))


def test_a_pickle_cannot_change_the_reader(made: np.ndarray, tmp_path: Path) -> None:
    """Attributes set on what it is given do not stay: the next file is read as before."""
    for name in (b"dtype", b"_reconstruct", b"scalar"):
        state = b"}X\x0c\x00\x00\x00__defaults__NsX\x04\x00\x00\x00callNs"
        with pytest.raises(ValueError, match="damaged"):
            read_object_array(write(tmp_path / "a.npy", b"cnumpy\n" + name + b"\n(N" + state + b"tb."))
    np.save(tmp_path / "b.npy", made, allow_pickle=True)
    check(read_object_array(tmp_path / "b.npy"), made)


def test_a_file_cut_short_is_refused_wherever_it_ends(made: np.ndarray, tmp_path: Path) -> None:
    """Every proper beginning of a file, and a file with a byte too many."""
    np.save(tmp_path / "a.npy", made, allow_pickle=True)
    content = (tmp_path / "a.npy").read_bytes()
    for n_bytes in range(len(content)):
        (tmp_path / "a.npy").write_bytes(content[:n_bytes])
        with pytest.raises(ValueError, match=r"a\.npy is (not a whole file|cut short or damaged).*; fetch it again"):
            read_object_array(tmp_path / "a.npy")
    (tmp_path / "a.npy").write_bytes(content + b"\0")
    with pytest.raises(ValueError, match=r"a\.npy does not hold the array that its header describes"):
        read_object_array(tmp_path / "a.npy")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"arch,val_acc\n1 2,0.5\n", "is not a whole file of numpy's format .npy; fetch it again"),
        (b"\x93NUMPY\x07\x00v\x00", "is not a whole file of numpy's format .npy; fetch it again"),
    ],
)
def test_another_format_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    """Plain text, and a version of the format that numpy does not know."""
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_object_array(tmp_path / "a.npy")


def test_an_array_of_numbers_is_refused(tmp_path: Path) -> None:
    """With its dtype, and with what reads it."""
    np.save(tmp_path / "a.npy", np.zeros(2))
    with pytest.raises(ValueError, match=r"a\.npy is an array of float64, not of objects; numpy.load reads it"):
        read_object_array(tmp_path / "a.npy")


@pytest.mark.parametrize("payload", [pickle.dumps([1]), pickle.dumps(np.array([1, 2], dtype=object))])
def test_a_header_that_describes_something_else_is_refused(payload: bytes, tmp_path: Path) -> None:
    """A list, and an array of two objects, where one object was said to be."""
    with pytest.raises(ValueError, match=r"does not hold the array that its header describes, of \(1,\) objects"):
        read_object_array(write(tmp_path / "a.npy", payload))
