"""Further trainings: complete ones of other seeds, by their highest accuracy."""

from pathlib import Path

import pandas as pd

from naaplib.studies.comparison import further


def write(folder: Path, seed: int, ids: list[int]) -> None:
    """A job's records: three epochs, of which the second is best."""
    rows = [(i, epoch, accuracy + i / 100) for i in ids for epoch, accuracy in ((1, 0.1), (2, 0.5), (3, 0.4))]
    path = folder / "90-epochs" / f"seed-{seed}" / f"{ids[0]:04d}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=["ModelId", "epoch", "accuracy"]).to_csv(path, index=False)


def test_only_whole_trainings_of_other_seeds_count(tmp_path: Path) -> None:
    """The published seed is no further training; a seed without one of the networks waits until it is complete."""
    write(tmp_path, 1, [3, 4])
    write(tmp_path, 1, [7])
    write(tmp_path, 2, [3, 4])
    write(tmp_path, 20220819, [3, 4, 7])
    found = further.accuracies(tmp_path, [7, 3])
    assert list(found) == ["seed 1"]
    assert found["seed 1"].round(2).to_dict() == {3: 0.53, 7: 0.57}
    assert len(further.files(tmp_path)) == 3
