"""Fixtures for tests that need data which the project does not carry, and hygiene for all."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from naaplib import sources
from naaplib.evaluation import style
from naaplib.tables import derived, graph_benchmarks
from naaplib.tables import nasbench201 as benchmarks


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums differ in their last bits with the number of threads."""
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def axes() -> Iterator[Axes]:
    """Axes in the book's style, which can be drawn at the end."""
    figure, axes = style.subplots()
    yield axes
    figure.canvas.draw()
    plt.close(figure)


def _find(name: str) -> Path:
    try:
        return derived.find(name) if name in derived.FILES else sources.find(name)
    except sources.MissingData as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def published_path() -> Path:
    """The published NAAP-440 table; skips where this machine lacks it."""
    return _find("naap440/naap440.csv")


@pytest.fixture(scope="session")
def published_schemes_path() -> Path:
    """The published list of schemes; skips where this machine lacks it."""
    return _find("naap440/generated_schemes.json")


@pytest.fixture(scope="session")
def published_results_path() -> Path:
    """The authors' Table 3 with four digits; skips where this machine lacks it."""
    return _find("naap440/results.csv")


@pytest.fixture(scope="session")
def nasbench201() -> pd.DataFrame:
    """What the cells of NAS-Bench-201 reached; skips where this machine lacks it."""
    for name in benchmarks.NASBENCH201:
        _find(name)
    return benchmarks.nasbench201()


@pytest.fixture(scope="session")
def nasbench101() -> pd.DataFrame:
    """What 2,520 cells of NAS-Bench-101 reached; skips where this machine lacks it."""
    return graph_benchmarks.nasbench101(_find(graph_benchmarks.NASBENCH101))


@pytest.fixture(scope="session")
def proxylessnas() -> pd.DataFrame:
    """What the replication's ProxylessNAS networks reached; skips where this machine lacks it."""
    for name in graph_benchmarks.PROXYLESSNAS.values():
        _find(name)
    return graph_benchmarks.proxylessnas()


@pytest.fixture(scope="session")
def nasbench_nlp() -> pd.DataFrame:
    """What the runs of NAS-Bench-NLP reached; skips where this machine lacks it."""
    return graph_benchmarks.nasbench_nlp(_find(graph_benchmarks.NASBENCH_NLP))


@pytest.fixture(scope="session")
def replication() -> pd.DataFrame:
    """The replication's stored predictions; skips where this machine lacks one of its files."""
    for name in derived.FILES:
        if name.startswith("neural_predictor/"):
            _find(name)
    return derived.stored("predictions")


@pytest.fixture(scope="session")
def made_path() -> Path:
    """A small made table in the published schema."""
    return sources.ROOT / "tests" / "data" / "naap440-made.csv"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """Address of a local web server that serves what a test puts into the folder ``served`` of its `tmp_path`."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Silent(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=folder)) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()
