"""NAAP-440 ready to use."""

from pathlib import Path

import numpy as np
import pytest

from naaplib import sources
from naaplib.tables import load, naap440
from naaplib.tables.features import SIX_SCHEME_COLUMNS, published


def test_the_parts_of_naap440_belong_together(published_path: Path) -> None:
    """Target, split, curves, graphs and features are of the same networks, in one order."""
    found = load.load_naap440("scheme", n_epochs=3)
    table = naap440.read(published_path)
    assert found.data.equals(published(table, SIX_SCHEME_COLUMNS, n_epochs=3))
    assert found.is_test.tolist() == table["IsTest"].astype(bool).tolist()
    assert found.target.to_numpy() == pytest.approx(found.curves.max(axis=1).to_numpy())
    assert (found.data.index == found.curves.index).all()
    assert len(found.graphs) == len(found.schemes) == 440
    depths = found.graphs.mask.sum(dim=1).numpy() - 2
    assert (depths == found.data["NumLayers"]).all()
    assert sum(mask.sum() for mask in found.splits.values()) == 440


def test_features_are_chosen_by_name(published_path: Path) -> None:
    """Blocks with and without epochs, two columns, and (X, y) as scikit-learn's loaders give them."""
    assert load.load_naap440().data.shape == (440, 24)
    assert load.load_naap440("blocks", n_epochs=2).data.shape == (440, 30)
    X, y = load.load_naap440("two", return_X_y=True)
    assert list(X) == ["LogNumParams", "NumStages"]
    assert (X.index == y.index).all()
    with pytest.raises(ValueError, match="features is 'all'; it must be one of blocks, scheme, two"):
        load.load_naap440("all")


def test_without_the_file_the_message_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it cannot be fetched, an error of the connection comes, and no half file stays."""
    monkeypatch.setattr(sources, "folders", lambda: [tmp_path])
    monkeypatch.setattr(sources, "ROOT", tmp_path)
    name = "naap440/naap440.csv"
    file = sources.File("http://127.0.0.1:9/naap440.csv", sources.FILES[name].sha256, "MIT")
    monkeypatch.setitem(sources.FILES, name, file)
    with pytest.raises(OSError, match=r"127\.0\.0\.1"):
        load.load_naap440()
    assert list(tmp_path.rglob("*.csv")) == []


def test_folds_are_parts_of_nearly_one_size() -> None:
    """Each row is tested once."""
    parts = load.folds(11, 4, seed=1)
    assert np.sum(list(parts.values()), axis=0).tolist() == [1] * 11
    assert sorted(part.sum() for part in parts.values()) == [2, 3, 3, 3]
    with pytest.raises(ValueError, match="between 2 and"):
        load.folds(3, 4)
