"""The command ``naaplib``: rank, predict, evaluate, search, train, chapters."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import click

import naaplib
from naaplib import cli_tools
from naaplib.cli_tools import (
    OneLine,
    can_be_written,
    draw,
    loaded,
    offered,
    read_curves,
    read_space,
    show_json,
    show_ranking,
)

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
figure = click.option("--figure", type=click.Path(dir_okay=False), callback=can_be_written, help="File to draw into.")
device = click.option("--device", default=None, help="Device by torch's name, such as cuda or cpu.")
seed = click.option("--seed", default=0, show_default=True, help="Seed of all random numbers.")


@click.group(cls=OneLine, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(naaplib.__version__, prog_name="naaplib")
@click.option("--traceback", is_flag=True, help="Show where an error comes from.")
def main(traceback: bool) -> None:
    """Know a neural network's accuracy without paying for its training.

    \b
    naaplib rank resnet18 mobilenet_v3_small
    naaplib predict curves.csv --at 90
    naaplib chapter 05 -p n_seeds 20
    naaplib COMMAND --help
    """


@main.command(short_help="Rank models by scores of untrained networks.")
@click.argument("models", nargs=-1, required=True)
@click.option("--images", type=click.Path(exists=True, file_okay=False), help="Folder of images; noise by default.")
@click.option("--by", default="synflow,nas_wot,macs,n_params", show_default=True, help="Scores, separated by commas.")
@click.option("--n-images", default=16, show_default=True, help="Number of images.")
@click.option("--side", default=224, show_default=True, help="Side of the images in pixels.")
@click.option("--storage", type=click.Path(dir_okay=False), help="File from which a stopped call goes on.")
@seed
@device
@figure
@as_json
def rank(
    models: tuple[str, ...], images: str | None, *, by: str, n_images: int, side: int, storage: str | None, seed: int,
    device: str | None, figure: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Rank MODELS by scores of untrained networks; the first score decides the order.

    A model is the name of a torchvision model, or module:name (also file.py:name), which is a model, a function that
    returns one, or a list or dictionary of these. Scores are n_params, macs, depth, relu_count, nas_wot, epe_nas,
    jacobian_covariance, gradient_norm, snip, synflow, linear_regions, ntk_condition.

    \b
    naaplib rank resnet18 mobilenet_v3_small
    naaplib rank mymodule:models --images folder/ --by synflow,macs
    naaplib rank models.py:models --storage scores.jsonl --figure ranking.png
    """
    from naaplib.estimators.proxies.models import named

    chosen = cli_tools.collected(models, named)
    table = naaplib.rank(
        chosen, images, by=by, n_images=n_images, image_side=side, storage=storage, seed=seed, device=device
    )
    draw(figure, lambda: naaplib.plot_ranking(table))
    if as_json:
        show_json(table)
    else:
        show_ranking(table)
    if table["score"].isna().all():
        raise click.ClickException("no model has a score")


@main.command(short_help="Predict final accuracies from learning curves.")
@click.argument("curves", type=click.Path(exists=True, dir_okay=False))
@click.option("--at", type=int, help="Epoch to predict; by default the last one of --finished.")
@click.option("--finished", type=click.Path(exists=True, dir_okay=False), help="CSV of finished trainings.")
@click.option("--method", help="svr, families, pow3, exp3, ilog2, mmf4, last, best, or a regressor's name.")
@click.option("--cycle", default=1, show_default=True, help="Epochs between restarts of the learning rate.")
@seed
@figure
@as_json
def predict(
    curves: str, at: int | None, *, finished: str | None, method: str | None, cycle: int, seed: int, figure: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Predict the final accuracies of running trainings, from a CSV of their CURVES.

    Its columns are either a name and one column per epoch, or a name, epoch and accuracy.

    \b
    naaplib predict curves.csv --at 90
    naaplib predict curves.csv --finished finished.csv --figure curves.png
    """
    given = read_curves(curves)
    known = None if finished is None else read_curves(finished)
    table = naaplib.predict(given, at, finished=known, method=method, cycle=cycle, seed=seed)
    draw(figure, lambda: naaplib.plot_learning_curves(given, table, at=at))
    table = table.rename_axis("training").reset_index()
    show_json(table) if as_json else click.echo(table.round(4).to_string(index=False))


@main.command(short_help="Evaluate predictors of yours on NAAP-440.")
@click.argument("estimators", nargs=-1, required=True)
@click.option("--splits", type=click.Choice(["eleven", "paper"]), default="eleven", show_default=True)
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Number of seeds.")
@as_json
def evaluate(estimators: tuple[str, ...], splits: str, *, seeds: int, as_json: bool) -> None:
    """Evaluate ESTIMATORS on NAAP-440: rank correlation, violations, error, intervals.

    An estimator is the name of a known one, or module:name (also file.py:name) of an object with fit and predict, or of
    a dictionary of these.

    \b
    naaplib evaluate mine.py:predictor "Random Forest (N=200)"
    """
    chosen = cli_tools.collected(estimators)
    table = naaplib.evaluate(chosen, splits=splits, seeds=range(seeds))
    if as_json:
        show_json(table)
        return
    shown = table[["estimator", "n_splits", "n_test"]].copy()
    for name, digits in (("kendall_tau", 3), ("violations", 1), ("mae", 4)):
        values = zip(table[name], table[f"{name}_low"], table[f"{name}_high"], strict=True)
        shown[name] = [f"{v:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})" for v, low, high in values]
    click.echo(shown.to_string(index=False))


@main.command(short_help="Fetch data files, checked by hash.")
@click.argument("what", nargs=-1)
@as_json
def data(what: tuple[str, ...], as_json: bool) -> None:
    """Fetch data, checked by hash: WHAT is a folder, a file or a chapter; else all.

    \b
    naaplib data naap440
    naaplib data 05-baselines
    """
    from naaplib.tables import fetch

    names = fetch.chosen(what)  # an unknown word ends in one line
    with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
        status = fetch.main(what)
    if as_json:
        click.echo(json.dumps({"files": names, "complete": status == 0}))
    sys.exit(status)


@main.command(short_help="Run a chapter of the book.")
@click.argument("chapter")
@click.option("-p", "parameters", nargs=2, multiple=True, metavar="NAME VALUE", help="Another value of a parameter.")
@click.option("--to", type=click.Path(file_okay=False), help="Folder for the results; with -p, results/trial.")
@click.option("--force", is_flag=True, help="Run even if the results are current.")
@as_json
def chapter(
    chapter: str, parameters: tuple[tuple[str, str], ...], *, to: str | None, force: bool, as_json: bool
) -> None:
    """Bring a CHAPTER of the book up to date, or run it with other parameters.

    \b
    naaplib chapter 05
    naaplib chapter 05 -p n_seeds 20
    """
    from naaplib import sources

    if not (sources.ROOT / "notebooks").is_dir():
        raise click.ClickException("there are no chapters here: only a checkout of the project has them")
    try:
        from naaplib.compendium import run
    except ImportError as error:
        raise click.ClickException(f"chapters need {error.name}: pip install 'naaplib[book]'") from None
    stems = run.stems()
    found = [one for one in stems if chapter in (one, one[:2], one[3:]) or chapter.zfill(2) == one[:2]]
    if len(found) != 1:
        raise click.UsageError(f"there is no chapter {chapter!r}; there are: {', '.join(stems)}")
    to = to or ("results/trial" if parameters else None)
    words = [found[0], *(word for pair in parameters for word in ("-p", *pair)), *(["--to", to] if to else [])]
    sys.argv = ["naaplib chapter", *words, *(["--force"] if force else [])]
    with contextlib.redirect_stdout(sys.stderr if as_json else sys.stdout):
        status = run.main()
    if as_json and not status:
        folder = (Path(to).absolute() if to else run.RESULTS) / found[0]
        click.echo(json.dumps({"chapter": found[0], "results": str(folder)}))
    sys.exit(status)


@main.command(short_help="Train a population of networks.")
@click.argument("spaces", type=click.Path(exists=True, dir_okay=False))
@click.option("--epochs", default=9, show_default=True, help="Epochs, of the 90 of NAAP-440's recipe.")
@click.option("--images", help="CIFAR-10 (the default), CIFAR-100, or a file .npz of images.")
@click.option(
    "--folder", type=click.Path(file_okay=False), help="Checkpoints to go on from; by default SPACES without .json."
)
@click.option("--jobs", type=click.IntRange(min=1), help="Processes; one a core by default, or one on a GPU.")
@click.option("--out", type=click.Path(dir_okay=False), callback=can_be_written, help="CSV; by default in the folder.")
@seed
@device
@figure
@as_json
def train(
    spaces: str, epochs: int, *, images: str | None, folder: str | None, jobs: int | None, out: str | None, seed: int,
    device: str | None, figure: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Train every network of SPACES, a JSON file, and write accuracies by epoch.

    The file holds a list of schemes (naaplib.architectures.schemes.to_json writes it), or the options of each block:

    \b
    {"blocks": [{"kernel_sizes": [3], "widths": [8, 16], "strides": [2]},
                {"kernel_sizes": [1, 3], "widths": [16], "strides": [1, 2]}],
     "min_blocks": 1, "max_strided": 2}
    naaplib train spaces.json --epochs 9
    """
    place = Path(folder or Path(spaces).with_suffix(""))
    table = offered("train_population")(
        read_space(spaces), images, n_epochs=epochs, seed=seed, folder=place, device=device or "auto", n_jobs=jobs
    )
    path = Path(out) if out else place / f"curves-seed-{seed}.csv"
    table.to_csv(path, index=False)
    draw(figure, lambda: naaplib.plot_learning_curves(table[["scheme", "epoch", "accuracy"]]))
    if as_json:
        show_json(table)
        return
    last = table[table["epoch"] == epochs].sort_values("accuracy", ascending=False)
    click.echo(last[["ModelId", "scheme", "accuracy"]].head(10).to_string(index=False))
    click.echo(f"{table['ModelId'].nunique()} networks, {epochs} epochs: {path}")


@main.command(short_help="Search for the best configuration.")
@click.argument("study", type=click.Path(exists=True, dir_okay=False))
@click.option("--budget", type=int, required=True, help="Epochs to spend in all.")
@click.option("--method", default="hyperband", show_default=True, help="random, halving, hyperband, bohb or tuning.")
@click.option("--max-epochs", default=27, show_default=True, help="Epochs of a full training.")
@click.option("--storage", type=click.Path(dir_okay=False), help="File to go on from; by default STUDY.jsonl.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Evaluations side by side.")
@seed
@figure
@as_json
def search(
    study: str, budget: int, *, method: str, max_epochs: int, storage: str | None, jobs: int, seed: int,
    figure: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Search for the best configuration: STUDY is a file with `space` and `objective`.

    \b
    space = {"rate": [0.01, 0.03, 0.1], "width": range(8, 65)}
    def objective(params, n_epochs): ...  # train so long, return validation accuracy
    naaplib search study.py --budget 50
    """
    space, objective = loaded(f"{study}:space"), loaded(f"{study}:objective")
    found = offered("search")(
        space, objective, budget=budget, method=method, max_epochs=max_epochs, seed=seed, n_jobs=jobs,
        storage=storage or str(Path(study).with_suffix(".jsonl")),
    )  # fmt: skip
    table = found.trials_dataframe()
    draw(figure, lambda: naaplib.plot_trajectory(table))
    if as_json:
        show_json(table)
    else:
        spent = table["spent"].max()
        click.echo(f"best {found.best_value:.4g} with {found.best_params}, after {len(table)} trials, {spent} epochs")


@main.command(short_help="Say what a search has found.")
@click.argument("trace", type=click.Path(exists=True, dir_okay=False))
@figure
@as_json
def report(trace: str, figure: str | None, *, as_json: bool) -> None:
    """Say what a search has found, from its TRACE; it may be running.

    \b
    naaplib report search.jsonl --figure trajectory.png
    """
    from naaplib.search import trace as traces

    table = traces.read(trace)
    draw(figure, lambda: naaplib.plot_trajectory(table))
    found = traces.summarise(table)
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, value in found.items():
        click.echo(f"{name}: {value}")
