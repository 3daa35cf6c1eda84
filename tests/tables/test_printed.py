"""Printed tables: complete, consistent with themselves and with the authors' own file."""

import pandas as pd
import pytest

from naaplib.tables import printed


def test_table_1_holds_the_papers_eight_rows() -> None:
    """The two feature sets that the text discusses, and the number of rows."""
    table = printed.table("naap440_table1").set_index("feature_set")
    assert len(table) == 8
    assert table.loc["LogNumParams & NumStages"].to_dict() == {"mae": 0.0063, "violations": 48}
    assert table.loc["All but LogNumParams"].to_dict() == {"mae": 0.0199, "violations": 111}


def test_table_2_holds_seven_lengths_by_three_feature_counts_but_one() -> None:
    """Every cell that the paper fills, once."""
    table = printed.table("naap440_table2")
    cells = {(epochs, n) for epochs in range(0, 21, 3) for n in (0, 2, 6)} - {(0, 0)}
    assert set(zip(table["epochs"], table["n_scheme_features"], strict=True)) == cells
    assert len(table) == len(cells) == 20


def test_table_3_holds_24_algorithms_by_four_budgets() -> None:
    """96 cells, with the best of each budget that the text names."""
    table = printed.table("naap440_table3")
    assert len(table) == 96
    assert table.groupby("algorithm", sort=False)["epochs"].agg(list).map(tuple).unique().tolist() == [(0, 3, 6, 9)]
    assert table["algorithm"].nunique() == 24
    assert table.groupby("epochs")["violations"].min().to_dict() == {0: 42, 3: 32, 6: 25, 9: 25}


def test_the_printed_monotonicity_scores_are_those_of_the_violations_but_for_three() -> None:
    """1 - violations / 780 in three digits; three cells at 0 epochs were rounded twice by the authors."""
    table = printed.table("naap440_table3")
    exact = 1 - table["violations"] / 780
    assert (exact.round(4).sub(table["monotonicity_printed"]).abs() <= 0.00051).all()
    twice = table[exact.round(3) != table["monotonicity_printed"]]
    assert twice["algorithm"].tolist() == ["SVR (Polynomial kernel)", "Random Forest (N=100)", "Random Forest (N=200)"]
    assert twice["epochs"].tolist() == [0, 0, 0]


def test_tables_agree_where_they_show_the_same_run() -> None:
    """A forest of 200 trees on two features without epochs stands in all three tables; with six and epochs in two."""
    one, two, three = (printed.table(f"naap440_table{i}") for i in (1, 2, 3))
    forest = three[three["algorithm"] == "Random Forest (N=200)"].set_index("epochs")
    two_features = one.set_index("feature_set").loc["LogNumParams & NumStages"]
    assert forest.loc[0, ["mae", "violations"]].tolist() == two_features[["mae", "violations"]].tolist()
    six = two[two["n_scheme_features"] == 6].set_index("epochs")["violations"]
    assert forest.loc[[3, 6, 9], "violations"].tolist() == six.loc[[3, 6, 9]].tolist()


def test_table_3_equals_the_authors_own_file(published_results_path) -> None:
    """Errors in four digits and violations, cell by cell in file order."""
    theirs = pd.read_csv(published_results_path)
    ours = printed.table("naap440_table3")
    assert ours["mae"].tolist() == theirs["MeanAbsoluteError"].tolist()
    assert ours["violations"].tolist() == theirs["NumViolations"].tolist()
    assert ours["algorithm"].str.replace("[()]", "", regex=True).tolist() == (
        theirs["Model"].str.replace("[()]", "", regex=True).tolist()
    )


def test_the_replications_table_1_holds_six_rows_of_three_splits() -> None:
    """Every printed cell; a row by hand."""
    table = printed.table("neural_predictor_table1")
    assert table.groupby("dataset", sort=False)["split"].agg(list).tolist() == [["train", "validation", "test"]] * 6
    assert table.notna().all(axis=None)
    assert table.set_index(["dataset", "split"]).loc[("ProxylessNAS on Oxford Pet", "test")].to_dict() == {
        "mse": 0.768, "kendall_tau": -0.021, "r2": -0.356,
    }  # fmt: skip


def test_an_unknown_table_is_refused_with_the_known_ones() -> None:
    """The message lists what there is."""
    with pytest.raises(ValueError, match="no printed table is called 'naap440_table4'; there are: naap440_table1, "):
        printed.table("naap440_table4")
