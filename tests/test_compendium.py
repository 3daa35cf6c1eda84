"""The house in order: names agree, copies are current, imports flow one way, versions are one set."""

import ast
import inspect
import json
import re
import tomllib
from pathlib import Path

import examples
import nbformat
import pandas as pd
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from naaplib.compendium import provenance, run

ROOT = run.ROOT
STEMS = run.stems()
MODULES = sorted((ROOT / "naaplib").rglob("*.py"))
ROOMS = ["architectures", "training", "tables", "estimators", "search", "evaluation", "studies"]  # data flows this way
LEAVES = {"cache", "metrics", "parallel", "sources"}  # import none but each other, may be imported by all
OUTSIDE = {"cli", "cli_tools", "compendium", "run", "__main__"}  # for notebooks, make and the command line only


def imported_names(source: str) -> set[str]:
    """Dotted names of everything of ours that a source imports, without "naaplib"."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "naaplib":
            names |= {f"{node.module}.{alias.name}".removeprefix("naaplib.") for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {a.name.removeprefix("naaplib.") for a in node.names if a.name.startswith("naaplib.")}
    return names


def rooms(names: set[str]) -> set[str]:
    """First part of each name: room or leaf."""
    return {name.split(".")[0] for name in names}


def studies(names: set[str]) -> set[str]:
    """Names of the studies among what is imported."""
    return {name.split(".")[1] for name in names if name.startswith("studies.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_flow_one_way(path: Path) -> None:
    """A module imports from its own room, from rooms before it, and from leaves."""
    own = path.relative_to(ROOT / "naaplib").parts[0].removesuffix(".py")
    if own in LEAVES:
        allowed = LEAVES
    elif own == "__init__":
        allowed = set()  # the front door names modules as texts, and imports them on first use
    elif own in ROOMS:
        allowed = LEAVES | set(ROOMS[: ROOMS.index(own) + 1])
    else:
        assert own in OUTSIDE, f"{path.name} belongs to no room; rooms: {ROOMS}"
        allowed = LEAVES | OUTSIDE | set(ROOMS)  # for notebooks, make and the command line
    assert rooms(imported_names(path.read_text())) <= allowed


def renames_a_file(source: str) -> bool:
    """Whether a source has a call such as ``part.replace(path)``; that of a text has two arguments."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    named = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr in ("replace", "rename")]
    return any(len(call.args) == 1 and not isinstance(call.args[0], ast.Dict | ast.Constant) for call in named)


def test_files_are_written_whole_in_one_place() -> None:
    """`cache.writing` gives a file its name when it is complete.

    Other programs write into a path of their own: the compiler, and the downloader. The journal renames what is whole.
    """
    assert renames_a_file("part.replace(path)") and not renames_a_file("text.replace('a', 'b'); frame.rename({1: 2})")
    found = [path.relative_to(ROOT / "naaplib").as_posix() for path in MODULES if renames_a_file(path.read_text())]
    assert found == ["cache.py", "search/journal.py", "tables/derivation.py", "training/compiled.py"]


@pytest.mark.parametrize("stem", STEMS)
def test_a_study_knows_no_other_study(stem: str) -> None:
    """Neither its modules nor its notebook import another's; folders of library and tests are named by its stem."""
    own = stem.split("-", 1)[1].replace("-", "_")
    modules = sorted((ROOT / "naaplib" / "studies" / own).glob("*.py"))
    sources = [path.read_text() for path in modules]
    sources += [cell.source for cell in run.read_notebook(stem).cells if cell.cell_type == "code"]
    assert len(modules) > 1
    assert set().union(*(studies(imported_names(source)) for source in sources)) <= {own}


def test_folders_of_studies_are_named_by_stems() -> None:
    """A study that was renamed leaves no folder behind, in the library or in the tests."""
    own = {stem.split("-", 1)[1].replace("-", "_") for stem in STEMS}
    found = [{path.parent.name for path in (ROOT / top / "studies").glob("*/*.py")} for top in ("naaplib", "tests")]
    assert found[0] == own
    assert found[1] <= own


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_module_is_small_and_says_what_it_is_for(path: Path) -> None:
    """At most 330 lines, with a docstring whose first line is a sentence."""
    text = path.read_text()
    assert len(text.splitlines()) <= 330
    assert (ast.get_docstring(ast.parse(text)) or "").split("\n")[0].endswith(".")


def test_every_notebook_has_its_five_counterparts() -> None:
    """Notebook, results folder, executed copy, quick copy and place in the book share one stem."""
    assert sorted(path.parent.name for path in ROOT.glob("results/*/provenance.json")) == STEMS
    assert sorted(path.stem for path in run.EXECUTED.glob("*.ipynb")) == STEMS
    assert sorted(path.stem for path in run.QUICK.glob("*.ipynb")) == STEMS
    assert sorted(json.loads((run.QUICK / "parameters.json").read_text())) == STEMS
    assert re.findall(r"executed/(\d\d-[\w-]+)", (ROOT / "book" / "_toc.yml").read_text()) == STEMS
    readme = (ROOT / "README.md").read_text()
    assert [stem for stem in STEMS if f"`{stem}`" not in readme] == []


@pytest.mark.parametrize("stem", STEMS)
def test_published_results_are_current(stem: str) -> None:
    """Results, executed copy and its text come from the notebook and the modules as they are now."""
    source = run.read_notebook(stem)
    assert provenance.out_of_date(source, run.default_parameters(source), folder=run.RESULTS / stem) == ""
    executed = nbformat.read(run.EXECUTED / f"{stem}.ipynb", as_version=4)
    assert executed == run.with_current_text(source, executed)


@pytest.mark.parametrize("stem", STEMS)
def test_quick_copy_is_current(stem: str) -> None:
    """The copy that nbval re-executes was made from this code and these parameters (else: `make quick`)."""
    notebook = nbformat.read(run.QUICK / f"{stem}.ipynb", as_version=4)
    assert notebook.metadata["naaplib"] == run.quick_mark(stem)


@pytest.mark.parametrize("stem", STEMS)
def test_notebook_source_keeps_the_house_form(stem: str) -> None:
    """Question, answer from results, what it does not show; one parameters cell, thin cells, no outputs; files last."""
    notebook = run.read_notebook(stem)
    first = notebook.cells[0].source
    assert first.startswith("# ")
    assert f"../../results/{stem}/answer.md" in first
    assert first.index("answer.md") < first.index("**What this does not show.** ")
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell for cell in code if cell.outputs or cell.execution_count] == []
    assert len([cell for cell in code if "parameters" in cell.metadata.get("tags", [])]) == 1
    assert run.default_parameters(notebook) != {}
    lengths = [(len(cell.source.splitlines()), "parameters" in cell.metadata.get("tags", [])) for cell in code]
    assert [n_lines for n_lines, is_list in lengths if n_lines > (25 if is_list else 20)] == []
    assert notebook.cells[-1].cell_type == "markdown"
    assert notebook.cells[-1].source.startswith("**Files")


def calls_without(device: str, source: str) -> list[str]:
    """Calls of ours that take a device but are given none that follows from the name `device`."""
    tree = ast.parse(source)
    known, n_known = {device}, 0
    while n_known < len(known):  # names that are assigned from known ones
        n_known = len(known)
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and known & {part.id for part in names_in(node.value)}:
                known |= {part.id for target in node.targets for part in names_in(target)}
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    namespace: dict[str, object] = {}
    exec(ast.unparse(ast.Module(imports, [])), namespace)
    found = []
    for call in [node for node in ast.walk(tree) if isinstance(node, ast.Call)]:
        called: object = namespace.get(ast.unparse(call.func).split(".")[0])
        for name in ast.unparse(call.func).split(".")[1:]:
            called = getattr(called, name, None)
        is_ours = str(getattr(called, "__module__", "")).startswith("naaplib")
        if is_ours and callable(called) and "device" in inspect.signature(called).parameters:
            given = [*call.args, *(keyword.value for keyword in call.keywords)]
            if not any(part.id in known for value in given for part in names_in(value)):
                found.append(ast.unparse(call))
    return found


def names_in(node: ast.AST) -> list[ast.Name]:
    return [part for part in ast.walk(node) if isinstance(part, ast.Name)]


@pytest.mark.parametrize("stem", [stem for stem in STEMS if int(stem[:2]) in (3, 7, 9, 10, 11)])
def test_the_device_of_a_notebook_reaches_all_that_trains(stem: str) -> None:
    """It is one parameter; whatever a notebook calls that takes a device is given it."""
    notebook = run.read_notebook(stem)
    assert run.default_parameters(notebook)["device"] in ("auto", "cpu")
    source = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
    assert calls_without("device", source) == []


def test_a_call_that_is_given_no_device_is_found() -> None:
    """As when a notebook's settings are handed on without it; what is made from the device counts as given."""
    start = "from naaplib.search.training_objective import Setting\nclassic = {'width': 0.5}\n"
    assert calls_without("device", f"{start}Setting(**classic)") == ["Setting(**classic)"]
    assert calls_without("device", f"{start}more = {{'device': device}} | classic\nSetting(**more)") == []
    assert calls_without("device", f"{start}Setting(device=device, **classic)") == []


def test_an_edited_module_concerns_only_the_chapters_that_use_it() -> None:
    """Editing metrics.py re-runs the chapters that compare accuracies, not the others."""
    users = {stem for stem in STEMS if "naaplib/metrics.py" in provenance.code_hashes(run.read_notebook(stem))}
    others = {
        "00-comparison",
        "06-training-free-scores",
        "07-feature-histories",
        "08-neural-predictor",
        "09-search-strategies",
    }
    assert users == {"03-accuracy-table", "04-feature-ablation", "05-baselines", "10-architecture-tuning"} | others


def test_a_package_that_re_exports_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Editing what a package's __init__ takes from a module concerns all who import it from the package."""
    for name, text in {
        "estimators/__init__": "from naaplib.estimators.one import f",
        "estimators/one": "f = 1",
    }.items():
        (tmp_path / "naaplib" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "naaplib" / f"{name}.py").write_text(text)
    (tmp_path / "naaplib" / "__init__.py").write_text("from naaplib.estimators import f")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    found = provenance.imported_modules("from naaplib.estimators import f")
    names = {path.relative_to(tmp_path / "naaplib").as_posix() for path in found}
    assert names == {"estimators/__init__.py", "estimators/one.py"}


def test_compiled_source_counts_as_code() -> None:
    """Editing what is compiled concerns the chapters that train populations, as the module beside it does."""
    code = {stem: set(provenance.code_hashes(run.read_notebook(stem))) for stem in STEMS}
    users = {stem for stem in STEMS if "naaplib/training/compiled.cpp" in code[stem]}
    assert users == {stem for stem in STEMS if "naaplib/training/compiled.py" in code[stem]} != set()


@pytest.mark.parametrize("stem", STEMS)
def test_outputs_name_no_place_on_a_machine(stem: str) -> None:
    """A warning that names an installed file would differ in the next checkout, and the comparison of outputs fail."""
    for path in (ROOT / f"book/executed/{stem}.ipynb", ROOT / f"tests/notebooks/{stem}.ipynb"):
        outputs = [cell.get("outputs", []) for cell in nbformat.read(path, as_version=4).cells]
        text = json.dumps(outputs)
        assert "site-packages" not in text
        own = re.sub(r"<[^>]*>|https?://\S+|data:\S+", "", text)
        assert not re.search(r"(?<![\w.:/])/(?:[\w.-]+/)+[\w.-]+\.\w+", own)


def test_results_are_small_and_text() -> None:
    """Committed results can be read and diffed: CSV, SVG, Markdown and JSON, 2 MiB at most each."""
    files = [path for stem in STEMS for path in (run.RESULTS / stem).iterdir()]
    assert {path.suffix for path in files} <= {".csv", ".svg", ".md", ".json"}
    assert [path.name for path in files if path.stat().st_size > 2 << 20] == []


def locked() -> dict[str, str]:
    """Version by package name from requirements.lock, for this Python."""
    found = {}
    for line in (ROOT / "requirements.lock").read_text().splitlines():
        if re.match(r"[A-Za-z0-9]", line):
            requirement = Requirement(line.rstrip(" \\"))
            if requirement.marker is None or requirement.marker.evaluate():
                found[canonicalize_name(requirement.name)] = next(iter(requirement.specifier)).version
    return found


def test_lock_satisfies_pyproject() -> None:
    """Every requirement of the project, extras included, is pinned in the lock to a version that it allows."""
    project = __import__("tomllib").loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)]
    wanted = [requirement for requirement in map(Requirement, texts) if requirement.name != "naaplib"]
    pins = locked()
    assert len(wanted) > 15
    assert [str(r) for r in wanted if not r.specifier.contains(pins.get(canonicalize_name(r.name), "none"))] == []


def test_lock_is_what_is_installed() -> None:
    """The environment that runs the tests is the locked one."""
    from importlib import metadata

    installed = {canonicalize_name(d.name): d.version.split("+")[0] for d in metadata.distributions()}
    assert {name: installed.get(name) for name in locked()} == locked()


def test_lock_has_hashes() -> None:
    """Every pin is held to the bytes that were locked."""
    text = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"\n(?=[A-Za-z0-9])", text)[1:]
    assert [entry.split("\n")[0] for entry in entries if "--hash=sha256:" not in entry] == []


PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


def test_one_set_of_pythons_is_allowed() -> None:
    """Makefile, pyproject.toml and CONTRIBUTING.md name the same oldest and newest one."""
    allowed = Requirement(f"python{tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['requires-python']}")
    assert [v for v in (f"3.{minor}" for minor in range(30)) if allowed.specifier.contains(v)] == PYTHONS
    pairs = re.findall(r"\((\d), (\d+)\) <= v <= \((\d), (\d+)\)", (ROOT / "Makefile").read_text())
    assert [(f"{a}.{b}", f"{c}.{d}") for a, b, c, d in pairs] == [(PYTHONS[0], PYTHONS[-1])]
    for name in ("Makefile", "CONTRIBUTING.md"):
        assert f"Python {PYTHONS[0]} to {PYTHONS[-1]}" in (ROOT / name).read_text()


def test_lock_serves_every_python_with_the_same_libraries() -> None:
    """Each Python has one version of a package; what results are made with is one version for all."""
    pins = [Requirement(line.rstrip(" \\")) for line in (ROOT / "requirements.lock").read_text().splitlines()
            if re.match(r"[A-Za-z0-9]", line)]  # fmt: skip
    for version in PYTHONS:
        place = {"python_version": version, "python_full_version": f"{version}.9"}
        names = [pin.name for pin in pins if pin.marker is None or pin.marker.evaluate(place)]
        assert len(names) == len(set(names))
        assert {"contourpy", "networkx", "soupsieve"} <= set(names)
    for name in provenance.PACKAGES:
        assert [pin.marker for pin in pins if pin.name == name] == [None], name


def test_lock_names_no_host() -> None:
    """Packages come from wherever a machine gets its packages; hashes say that they are the right ones."""
    assert re.findall(r"https?://\S+|--\w*index\S*|--find-links", (ROOT / "requirements.lock").read_text()) == []


def test_conda_environment_takes_its_versions_from_the_lock() -> None:
    """environment.yml pins a Python that the project allows and installs the lock, nothing else."""
    project = __import__("tomllib").loads((ROOT / "pyproject.toml").read_text())["project"]
    python, *others, pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    name, version = python.split("=")
    assert name == "python"
    assert Requirement(f"python{project['requires-python']}").specifier.contains(version)
    assert others == ["pip", "make"]
    assert pip == {"pip": ["-r requirements.lock"]}


README_TEXT = (ROOT / "README.md").read_text()
EXAMPLES = examples.find(README_TEXT)


def test_every_example_of_the_readme_shows_what_it_prints() -> None:
    """A block of Python is followed by a block of its output; what differs between processors is left open by dots."""
    assert len(EXAMPLES) == README_TEXT.count("```python") == 7
    assert [output for _, output in EXAMPLES if not re.search(r"\d", output.replace("...", ""))] == []


@pytest.mark.parametrize("place", range(len(EXAMPLES)))
def test_an_example_of_the_readme_runs_alone(
    place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As it stands, in an empty folder, each example prints what stands under it."""
    monkeypatch.chdir(tmp_path)
    examples.check(EXAMPLES[place], capsys)


def test_an_example_of_the_readme_agrees_with_its_table() -> None:
    """The violations that it prints are those of the table's row of 3 epochs, re-run with ties one half."""
    (row,) = re.findall(r"^\| 3 \| [^|]+ \| ([\d.]+) \|", README_TEXT, re.MULTILINE)
    (printed,) = [output for code, output in EXAMPLES if "protocols.median_run" in code]
    assert printed.split()[0] == row


def test_readme_table_shows_the_results() -> None:
    """The README's one results table is the committed one, cell by cell."""
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", README_TEXT, re.MULTILINE)
    shown = pd.DataFrame(
        [[cell.strip() for cell in row] for row in rows[1:]], columns=[cell.strip() for cell in rows[0]]
    )
    expected = pd.read_csv(ROOT / "results" / "05-baselines" / "headline.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(shown, expected)


LANGUAGE_ROOMS = [
    "search",
    "evaluation",
    "studies",
    "compendium",
    "architectures",
    "training",
    "tables",
    "estimators",
    *sorted(LEAVES),
    "run",
    "cli",
    "cli_tools",
    "__main__",
    "__init__",
]
NO_BEGINNING = re.compile(r"(?:^|[.:!?]\s+|\n\s*)((?:Of|What|Which|Who|Whether|How|Only)\b.*)")
NO_PHRASE = re.compile(
    r"\b(foretell\w*|foretold|gave out|gone on with|goes on where|are taken up|shaken|mended|training-free(?! scores\))"
    r"|is judged|are judged|judged by|cheap metrics?|cheap evaluations?|kept (?:table|score|record|prediction|work)s?"
    r"|finished (?:work|pieces?)|(?:a|each|every|one|of) piece|an? unit's|units? of work|is worth|are worth|held-out"
    r"|is left as it|are left as they|as far as it|told apart|what is told|whatever it is told|data sets?)\b"
)


def language_faults(source: str) -> list[str]:
    """What the language rules refuse in the docstrings of a module and of its public classes and functions."""
    faults = []
    waiting: list[tuple[str, ast.Module | ast.ClassDef | ast.FunctionDef]] = [("module", ast.parse(source))]
    while waiting:
        name, node = waiting.pop()
        parts = [child for child in node.body if isinstance(child, ast.ClassDef | ast.FunctionDef)]
        waiting += [(part.name, part) for part in parts if not part.name.startswith("_")]
        text = ast.get_docstring(node) or ""
        first, *_ = text.split("\n")
        faults += [f"{name}: first line of {len(first)} characters: {first}"] if len(first) > 80 else []
        faults += [f"{name}: {found[0]}" for rule in (NO_BEGINNING, NO_PHRASE) for found in rule.finditer(text)]
    return faults


def test_language_rules_find_their_faults() -> None:
    """A long first line, a headless beginning and a private word are found, at any depth; private names are free."""
    text = 'class A:\n    """Noun."""\n    def f(self):\n        """{}"""\n    def _g(self):\n        """Of all."""\n'
    assert language_faults(text.format("Return which one is best, and how.")) == []
    for bad in ("x" * 81, "Of a run.", "Return a number. Only once.", "Return.\n\n    n : int\n        Whether.",
                "Predict what is foretold."):  # fmt: skip
        assert len(language_faults(text.format(bad))) == 1, bad


@pytest.mark.parametrize("room", LANGUAGE_ROOMS)
def test_public_docstrings_follow_the_language_rules(room: str) -> None:
    """A first line has at most 80 characters, sentences have subjects, and things are called by the field's words."""
    paths = [path for path in MODULES if path.relative_to(ROOT / "naaplib").parts[0].removesuffix(".py") == room]
    assert paths
    assert {p.name: found for p in paths if (found := language_faults(p.read_text()))} == {}
