"""Rules of parameters: what fits, what is refused, and that the book's own values keep the rules."""

import json
import logging

import pytest
from papermill.inspection import inspect_notebook

from naaplib.compendium import coverage, execution, parameter_rules, run

STEMS = run.stems()


def ask(stem: str, **texts: str) -> dict[str, object]:
    """Check values as the command line does."""
    (whole,) = (one for one in STEMS if one.startswith(stem))
    return run.check_parameters(run.read_notebook(whole), whole, texts=texts)


@pytest.mark.parametrize("stem", STEMS)
def test_the_books_own_values_fit(stem: str) -> None:
    """Defaults and the small values of quick copies, which some rule would otherwise be too strict for."""
    defaults = run.default_parameters(run.read_notebook(stem))
    for given in (defaults, json.loads((run.QUICK / "parameters.json").read_text())[stem]):
        texts = {name: value if isinstance(value, str) else repr(value) for name, value in given.items()}
        assert run.check_parameters(run.read_notebook(stem), stem, texts=texts).keys() == texts.keys()


def test_the_values_of_the_page_of_what_runs_fit() -> None:
    """The values that make a small run the full one, each as a reader would copy it."""
    for row in coverage.read().itertuples():
        if row.chapter and row.parameter:
            given = coverage.parameters(str(row.parameter))
            texts = {name: value if isinstance(value, str) else repr(value) for name, value in given.items()}
            assert run.check_parameters(run.read_notebook(row.chapter), row.chapter, texts=texts)


def test_a_number_of_a_mapping_leaves_the_others() -> None:
    """Three seeds of a search by pruning are three of the search as it is; what selects benchmarks selects."""
    more = ask("06", te_nas="{'n_images': 64}")["te_nas"]
    assert more == {
        "n_seeds": 2,
        "n_images": 64,
        "n_cells": 1,
        "n_repeats": 2,
    }
    assert ask("09", files="{'CIFAR-10': 'x.npz'}")["files"]["NAS-Bench-NLP"] == ""
    assert ask("10", claims="{'CIFAR-10': 80}")["claims"] == {"CIFAR-10": 80}
    assert ask("10", n_tuned="{'CIFAR-10': 2}")["n_tuned"]["NAAP-440"] == 50
    assert ask("06", te_nas="{}")["te_nas"]["n_images"] == 16
    assert ask("03", model_ids="[500]", schemes_file="mine.json")["model_ids"] == [500]
    assert ask("03", other_recipes="{'mine': {'momentum': 0.0}}")["other_recipes"] == {"mine": {"momentum": 0.0}}
    assert ask("07", main_claim="{}")["main_claim"] == {}
    assert ask("10", tool="{'pretraining': None}")["tool"]["n_members"] == 5


@pytest.mark.parametrize(
    ("stem", "name", "text", "message"),
    [
        (
            "00",
            "n_train",
            "{'NAAP440': [10]}",
            "has no 'NAAP440' .did you mean NAAP-440..; it has: NAAP-440, NAS-B",
        ),
        ("00", "n_train", "{'NAAP-440': 10}", r"NAAP-440 must be like \[10, 20.*, not 10"),
        ("00", "n_train", "{'NAAP-440': [0]}", "must be 1 or more, not 0"),
        ("00", "epochs", "[3, 91]", "epochs must be of the 90 epochs of a training, not 91"),
        ("00", "epochs", "[9.5]", r"must be a list of values like 3, not of 9.5"),
        ("00", "few", "44", r"few must be one of n_train, \[10, 20, 43.*, not 44: give both"),
        ("00", "answered_at", "10", r"answered_at must be one of epochs, \[3, 6"),
        ("00", "epochs", "[3, 6]", r"answered_at must be one of epochs, \[3, 6\], not 9: give both"),
        ("00", "n_resamples", "0", "n_resamples must be 1 or more, not 0"),
        ("00", "seed", "-1", "seed must be 0 or more, not -1"),
        ("01", "widths", "[[8], [8]]", "widths must have one list a block, .* not 2 beside .*: give all four"),
        ("01", "branch_of", "0", "branch_of must be 1 or more, not 0"),
        ("02", "allowed", "-1", "allowed must be 0 or more, not -1"),
        ("02", "model_ids", "[1, 1]", r"must be different values, not \[1, 1\]"),
        ("05", "split_indices", "[11]", r"must be of 0 to 10, not \[11\]"),
        ("05", "split_indices", "[]", r"must be one value or more, as \[0, 1, .*, not \[\]"),
        ("03", "lengths", "[]", r"lengths must be one value or more, as \[3, 9, 90\], not \[\]"),
        ("00", "n_train", "{'NAAP-440': []}", "n_train, NAAP-440 must be one value or more"),
        ("03", "other_recipes", "{'fast': {'rate': 1}}", "other_recipes, fast: recipe has no 'rate'"),
        ("09", "published", "['fig8']", "published must be of 'fig10_11_random_2000', .*, not 'fig8'"),
        ("09", "published_losses", "['fig13_nlp_np_by_samples']", "must be 2 values, as"),
        ("05", "n_jobs", "-1", "n_jobs must be 1 or more, not -1"),
        ("06", "te_nas", "{'n_image': 3}", "has no 'n_image' .did you mean n_images..; it has: n_seeds"),
        ("06", "te_nas", "{'n_images': 'many'}", "n_images must be like 16, not 'many'"),
        ("07", "n_cells", "-1", "n_cells must be 0 or more, not -1"),
        ("07", "classic", "{'width': -1}", "width must be 0 or more, not -1"),
        ("03", "recipe", "{'rate': 1}", "recipe has no 'rate'.*; it has: n_epochs"),
        ("03", "trainer", "fast", "trainer must be of 'compiled', 'torch', not 'fast'"),
        ("06", "n_images", "{'nas-wot': 3}", "n_images has no 'nas-wot' .did you mean nas_wot"),
        ("07", "classics", "['resnet']", "classics must be of 'resnet18', .*, not 'resnet'"),
        ("07", "other_windows", "{'none': [0, None]}", "other_windows, none must be 1 or more, not 0"),
        ("07", "other_windows", "{'short': [3]}", r"must be 2 values, as \[3, None\], not \[3\]"),
        ("07", "main_claim", "{'image': 'CIFAR-10'}", "has no 'image' .did you mean images"),
        ("08", "n_epochs", "[300]", r"n_epochs must be 2 values, as \[300, 200\], not \[300\]"),
        ("08", "deep", "{'CIFAR': [79, 40, 1, 100]}", "has no 'CIFAR' .did you mean CIFAR-100"),
        ("09", "eta", "1", "eta must be 2 or more, not 1"),
        ("09", "trained", "{'n_trian': 9}", "has no 'n_trian' .did you mean n_train"),
        (
            "10",
            "tool",
            "{'pretraining': 'none'}",
            "must be of 'simultaneous', 'sequential', None, not 'none'",
        ),
        ("10", "tool", "{'settings': {'n_chaep': 1}}", "has no 'n_chaep' .did you mean n_cheap"),
        ("10", "others", "['TPA']", "must be of 'random search', 'Gaussian process', 'TPE', .* not 'TPA'"),
        ("11", "sizes", "{'gpu': [1]}", "it has: cpu, cuda"),
        ("00", "n_train", "{'NAAP-440': None}", r"NAAP-440 must be like \[10, 20.*, not None"),
        ("03", "model_ids", "['one']", "must be a list of values like 1, not of 'one'"),
        ("07", "shown", "[0]", "must be 1 or more, not 0"),
        ("07", "shown", "[441]", "shown must be of 1 to 440, not 441"),
        ("02", "model_ids", "[1, 500]", "model_ids must be of 1 to 440, not 500"),
        ("04", "n_seeds", "0", "n_seeds must be 1 or more, not 0"),
        ("02", "seed", "4294967296", "seed must be 4,294,967,295 or less, not 4294967296"),
        ("05", "n_jobs", "10000000000", "n_jobs must be 1,000,000,000 or less"),
        ("09", "classify_above", "{'NAAP-440': 70.0}", "must be 1.0 or less, not 70.0"),
    ],
)
def test_what_cannot_run_is_refused_before_it_does(stem: str, name: str, text: str, message: str) -> None:
    """In one line with the chapter, the name, what came and what is allowed."""
    with pytest.raises(run.RunError, match=message) as error:
        ask(stem, **{name: text})
    assert str(error.value).startswith(f"{stem}-")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("stem", "name"), [("00", "proxies"), ("00", "algorithms"), ("06", "batch_sizes"), ("09", "published")]
)
def test_a_list_that_a_chapter_can_go_without_may_be_empty(stem: str, name: str) -> None:
    """As in the default of others."""
    assert ask(stem, **{name: "[]"})[name] == []


ODD = ("None", "[]", "{}", "-1", "1e9", "nan", "1e400", "1j", "True", "'x'", "['x']", "[None]", "[[1]]", "(1, 2)",
       "[1, 'a']", "{1: 2}", "{'a': 1}", "{'NAAP-440': None}", "{'NAAP-440': 'x'}", "{'CIFAR-10': []}", "9" * 30,
       "f()")  # fmt: skip


@pytest.mark.parametrize("stem", STEMS)
def test_an_odd_value_is_refused_in_one_line_or_fits(stem: str) -> None:
    """Of every parameter: what is accepted has the type of the default, and nothing ends in another error."""
    notebook = run.read_notebook(stem)
    for name, default in run.default_parameters(notebook).items():
        for text in ODD:
            try:
                value = run.check_parameters(notebook, stem, texts={name: text})[name]
            except run.RunError as error:
                assert "\n" not in str(error)
            else:
                assert type(value) is type(default), (name, text)


def test_names_in_the_rules_are_parameters() -> None:
    """A parameter that is renamed does not leave its rule behind."""
    known = {stem[:2]: run.default_parameters(run.read_notebook(stem)) for stem in STEMS}
    everywhere = set().union(*known.values())
    rules = parameter_rules
    named = {*rules.OWN_KEYS, *rules.SELECTED, *rules.DISTINCT, *rules.MAY_BE_EMPTY}
    named |= {*rules.ITEMS, *rules.LEAST, *rules.MOST}
    assert named | {*rules.VALUES_AS, *rules.VALUES_AS.values()} <= everywhere
    for chapter, names in parameter_rules.OF_EPOCHS.items():
        assert set(names) <= set(known[chapter])
    for (chapter, name), (first, *_) in parameter_rules.ONE_OF.items():
        assert {name, first} <= set(known[chapter])


def test_papermill_is_not_heard_about_texts_with_an_equals_sign(caplog: pytest.LogCaptureFixture) -> None:
    """It warns by itself, which frightens; a run silences these two messages and no other."""
    path = run.NOTEBOOKS / "00-comparison.ipynb"
    with caplog.at_level(logging.WARNING):
        assert "algorithms" not in inspect_notebook(path)
        assert "Unable to parse line" in caplog.text
        caplog.clear()
        with execution.unguessed():
            inspect_notebook(path)
            logging.getLogger("papermill").warning("Passed unknown parameter: algorithms")
            logging.getLogger("papermill").warning("something else")
        assert [record.getMessage() for record in caplog.records] == ["something else"]
