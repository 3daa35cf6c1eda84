"""Scores of many networks: the same table however it was made, kept or gone on with, and what is drawn from what."""

import json
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from made import SCHEME, make_images
from torch import Tensor, nn
from untrained import convolutions

from naaplib.architectures import scheme_networks
from naaplib.estimators.proxies import runs, scores
from naaplib.estimators.proxies.runs import PIECE, Plan, Setting, build, draw, repeated, score_networks
from naaplib.parallel import one_thread
from naaplib.sources import ROOT
from naaplib.training.cifar10 import normalise

IMAGES = make_images()
SCORES = ["n_params", "relu_count", "nas_wot", "snip"]
N_NETWORKS = 2 * PIECE + 1  # three pieces


def with_dropout() -> nn.Sequential:
    """As `convolutions`, with dropout between the two."""
    network = convolutions(n_outputs=10)
    network.insert(3, nn.Dropout(0.5))
    return network


def without_relu() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 10))


def plan(**other) -> Plan:
    """Three pieces of networks, one without a ReLU and one with dropout, under two settings, on batches of eight."""
    made = {i: partial(scheme_networks.build, SCHEME[: 1 + i % 3]) for i in range(N_NETWORKS - 2)}
    made |= {98: without_relu, 99: with_dropout}
    settings = [Setting("8", 1, n_images=8), Setting("8", 2, 5, 6, n_images=8)]
    return Plan(**({"networks": made, "scores": SCORES, "settings": settings} | other))


def untimed(table: pd.DataFrame) -> pd.DataFrame:
    """All but the seconds, which must be there and take some time."""
    assert (table[["seconds", "build_seconds"]] > 0).all(axis=None)
    return table.drop(columns=["seconds", "build_seconds"])


def assert_same(actual: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Bit by bit, types included, but for seconds."""
    pd.testing.assert_frame_equal(untimed(actual), untimed(expected), check_exact=True)


@pytest.fixture(scope="module")
def straight() -> pd.DataFrame:
    """Scores that one process computed, and kept in no folder."""
    return score_networks(plan(), IMAGES)


def test_table_equals_a_loop(straight: pd.DataFrame) -> None:
    """Slow twin: networks, settings, scores in their order, each network made anew and scored by itself; ten digits."""
    by_name = {
        "n_params": lambda network, x, labels: scores.n_parameters(network),
        "relu_count": lambda network, x, labels: scores.relu_count(network, x),
        "nas_wot": lambda network, x, labels: scores.nas_wot(network, x),
        "snip": lambda network, x, labels: scores.snip(network, x, labels=labels),
    }
    rows = []
    for name, make in plan().networks.items():
        for repeat, weights_seed, images_seed in ((1, 1, 1), (2, 5, 6)):
            order = torch.randperm(40, generator=torch.Generator().manual_seed(images_seed))[:8]
            x, labels = normalise(IMAGES.train_images[order]), IMAGES.train_labels[order]
            for score in SCORES:
                with torch.random.fork_rng(devices=[]), one_thread():
                    torch.manual_seed(weights_seed)
                    network = make()
                    torch.manual_seed(weights_seed)
                    found = by_name[score](network, x, labels)
                rows.append([name, "8", repeat, score, float(f"{found.value:.10g}"), found.reason])
    expected = pd.DataFrame(rows, columns=runs.COLUMNS[:6])
    pd.testing.assert_frame_equal(untimed(straight), expected, check_exact=True)
    assert straight.columns.tolist() == runs.COLUMNS
    without = straight.query("architecture == 98 and score == 'nas_wot'")
    assert without["reason"].tolist() == ["no ReLU was called"] * 2
    assert without["value"].isna().all()
    assert straight.query("architecture != 98")["value"].notna().all()


def test_jobs_and_folders_change_nothing(straight: pd.DataFrame, tmp_path: Path) -> None:
    """Two processes that keep what they finish, and reading that again, give the table of one that keeps nothing."""
    assert_same(score_networks(plan(), IMAGES, folder=tmp_path, n_jobs=2), straight)
    assert len(list(tmp_path.iterdir())) == 3
    assert_same(score_networks(plan(), IMAGES, folder=tmp_path), straight)


def test_stopped_run_goes_on(straight: pd.DataFrame, tmp_path: Path) -> None:
    """Stopped in the second of three pieces: the first is not scored again, seconds included; the rest is."""
    calls = []

    def stopping(make, limit):
        def made():
            calls.append(make)
            if len(calls) == limit:
                raise KeyboardInterrupt
            return make()

        return made

    def counted(limit: int = 0) -> Plan:
        calls.clear()
        return plan(networks={name: stopping(make, limit) for name, make in plan().networks.items()})

    n_first = 2 * PIECE  # networks are made under two settings
    with pytest.raises(KeyboardInterrupt):
        score_networks(counted(n_first + 5), IMAGES, folder=tmp_path)
    (kept,) = tmp_path.iterdir()
    first = pd.read_csv(kept)["seconds"].tolist()
    table = score_networks(counted(), IMAGES, folder=tmp_path)
    assert len(calls) == 2 * N_NETWORKS - n_first
    assert table["seconds"].tolist()[: len(first)] == first
    assert_same(table, straight)
    assert_same(score_networks(counted(), IMAGES, folder=tmp_path), straight)
    assert len(calls) == 0


def test_lost_piece_is_scored_again(straight: pd.DataFrame, tmp_path: Path) -> None:
    """What is gone from the folder, and half a file of a killed process, cost only their piece."""
    whole = score_networks(plan(), IMAGES, folder=tmp_path)
    (second,) = [path for path in tmp_path.iterdir() if f"\n{PIECE}," in path.read_text()]
    second.rename(second.with_suffix(".1234.part"))
    again = score_networks(plan(), IMAGES, folder=tmp_path)
    assert_same(again, straight)
    rows = len(SCORES) * 2 * PIECE
    same = (again["seconds"] == whole["seconds"]).to_numpy()
    assert same[:rows].all() and same[2 * rows :].all() and not same[rows : 2 * rows].all()


def test_pieces_of_another_plan_are_not_taken(tmp_path: Path) -> None:
    """Other seeds, sizes, scores or images, in one folder: the tables that folders of their own give."""
    settings = plan().settings
    plans = [
        plan(),
        plan(settings=settings[:1]),
        plan(settings=[settings[0], Setting("8", 2, 7, 6, n_images=8)]),
        *(
            plan(settings=[Setting("8", i, i, i) for i in (1, 2)], n_images={"nas_wot": n, "relu_count": 8, "snip": 8})
            for n in (7, 6)
        ),
        plan(scores=SCORES[:2]),
    ]
    for i, (other, images) in enumerate([*((one, IMAGES) for one in plans), (plans[0], make_images(seed=1))]):
        assert_same(score_networks(other, images, folder=tmp_path), score_networks(other, images))
        assert len(list(tmp_path.iterdir())) == 3 * (i + 1)


@pytest.mark.parametrize("source", runs.SOURCES)
def test_smaller_batches_begin_larger_ones(source: str) -> None:
    """Of images and of noise, with their labels; noise is normal, images are the normalised training images."""
    setting = Setting(images_seed=3, source=source)
    x, labels = draw(IMAGES, setting, n_images=40)
    for n in (1, 8, 39):
        few, few_labels = draw(IMAGES, setting, n_images=n)
        assert torch.equal(few, x[:n])
        assert torch.equal(few_labels, labels[:n])
    assert (x.shape, x.dtype) == ((40, 3, 8, 8), torch.float32)
    assert torch.equal(labels.sort().values, IMAGES.train_labels.sort().values)
    if source == "noise":
        assert (abs(x.mean()) < 0.05, abs(x.std() - 1) < 0.05) == (True, True)
    else:
        assert torch.equal(
            x.sum(dim=(1, 2, 3)).sort().values, normalise(IMAGES.train_images).sum((1, 2, 3)).sort().values
        )


def test_seeds_of_images_draw_different_batches() -> None:
    """Another seed is another order, and other noise; the labels of noise are those of the images."""
    one, other = (draw(IMAGES, Setting(images_seed=seed), n_images=40) for seed in (1, 2))
    assert not torch.equal(one[1], other[1])
    noise = [draw(IMAGES, Setting(images_seed=seed, source="noise"), n_images=40) for seed in (1, 2)]
    assert not torch.equal(noise[0][0], noise[1][0])
    assert torch.equal(noise[0][1], one[1])


def test_weights_seed_changes_weights_only() -> None:
    """Another seed of weights is another NAS-WOT, and the same count of ReLUs and of parameters."""
    settings = [Setting("a", repeat, weights_seed=repeat, n_images=8) for repeat in (1, 2)]
    table = score_networks(plan(settings=settings), IMAGES).query("architecture != 98")
    one, other = (table[table["repeat"] == repeat].set_index(["architecture", "score"])["value"] for repeat in (1, 2))
    equal = (one == other).groupby("score").mean()
    assert equal.to_dict() == {"n_params": 1, "relu_count": 1, "nas_wot": 0, "snip": 0}


def test_networks_that_are_alike_have_equal_scores() -> None:
    """All networks of a setting start at the same seed, whatever came before them."""
    makers = {"first": with_dropout, "between": without_relu, "last": with_dropout}
    table = score_networks(plan(networks=makers), IMAGES).set_index("architecture")
    first, last = table.loc["first"], table.loc["last"]
    assert first["value"].tolist() == last["value"].tolist()


def test_initialisations() -> None:
    """The maker's own draws; torch's and the recipe's, drawn after them, each from the seed."""
    make = partial(scheme_networks.build, SCHEME)
    own = build(make, Setting(weights_seed=4))
    expected = scheme_networks.build_seeded(SCHEME, 4)
    for weight, other in zip(own.parameters(), expected.parameters(), strict=True):
        assert torch.equal(weight, other)
    torchs, recipes = (build(convolutions, Setting(initialisation=name)) for name in ("torch", "recipe"))
    plain = build(convolutions, Setting())
    # The first convolution's fan-in is 27, its fan-out 36: torch's is uniform up to the root of 1 / 27.
    assert 0.95 < torchs[0].weight.abs().max().item() * 27**0.5 <= 1
    assert torchs[0].weight.std().item() == pytest.approx((1 / 27 / 3) ** 0.5, rel=0.15)
    assert recipes[0].weight.std().item() == pytest.approx((2 / 36) ** 0.5, rel=0.15)
    assert recipes[-1].bias.count_nonzero() == 0
    assert not torch.equal(plain[0].weight, torchs[0].weight)


def test_torch_generator_is_left_alone() -> None:
    """Neither weights, images, noise nor dropout draw from it."""
    before = torch.get_rng_state()
    settings = [Setting("noise", source="noise", n_images=8), Setting("torch", initialisation="torch", n_images=8)]
    score_networks(plan(settings=settings), IMAGES)
    assert torch.equal(torch.get_rng_state(), before)


def test_every_score_runs() -> None:
    """Each of the table's scores gives a number on a made batch, with the mode, noise and size of a setting."""
    settings = [Setting("eval", mode="eval", n_images=8), Setting("noise", source="noise", n_images=6)]
    one = Plan({"net": partial(scheme_networks.build, SCHEME)}, list(runs.SCORES), settings)
    table = score_networks(one, IMAGES)
    assert table["score"].tolist() == 2 * list(runs.SCORES)
    assert (table["value"].notna().all(), set(table["reason"])) == (True, {""})
    x, labels = draw(IMAGES, settings[0], n_images=8)
    network = build(one.networks["net"], settings[0])
    values = table.query("condition == 'eval'").set_index("score")["value"]
    assert values["nas_wot"] == pytest.approx(scores.nas_wot(network, x, mode="eval").value)
    assert values["epe_nas"] == pytest.approx(scores.epe_nas(network, x, labels=labels, mode="eval").value)
    centre = scores.linear_regions(network, x[:, :, 3:6, 3:6], mode="eval")
    assert values["linear_regions"] == centre.value


def test_sizes_of_batches() -> None:
    """A setting's size before the plan's before the source's."""
    three = Plan({1: convolutions}, ["nas_wot"], [Setting(n_images=5), Setting("b")], {"nas_wot": 9})
    assert [three.size("nas_wot", setting) for setting in three.settings] == [5, 9]
    assert [three.size(score, Setting()) for score in ("epe_nas", "ntk_condition", "macs")] == [256, 32, 1]


def test_each_score_has_its_own_batch() -> None:
    """The first images of the setting's, as many as the score takes."""
    sizes = {"relu_count": 5, "nas_wot": 9}
    table = score_networks(Plan({1: convolutions}, list(sizes), n_images=sizes), IMAGES).set_index("score")
    x, _ = draw(IMAGES, Setting(), n_images=9)
    assert table["value"]["relu_count"] == 5 * (4 * 64 + 6 * 16)
    assert table["value"]["nas_wot"] == pytest.approx(scores.nas_wot(build(convolutions, Setting()), x).value)


def test_repeated_counts_seeds_up() -> None:
    """Both seeds, but for one that is held."""
    assert repeated("a", 2, first_seed=5) == [Setting("a", 1, 5, 5), Setting("a", 2, 6, 6)]
    assert repeated("a", 2, first_seed=5, images_seed=1, mode="eval") == [
        Setting("a", 1, 5, 1, mode="eval"),
        Setting("a", 2, 6, 1, mode="eval"),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": ["nas_wot", "naswot"]}, r"unknown scores \['naswot'\]; there are \['n_params', "),
        ({"n_images": {"synflows": 3}}, r"unknown scores \['synflows'\]"),
        ({"settings": [Setting(), Setting(weights_seed=2)]}, r"two settings share condition and repeat: \[\('default'"),
        ({"settings": []}, "a plan has at least one network, one score and one setting"),
        ({"networks": {}}, "a plan has at least one network"),
        ({"scores": []}, "a plan has at least one network"),
    ],
)
def test_plans_without_sense_are_refused(change: dict, message: str) -> None:
    """Unknown scores, settings that no row could tell apart, and nothing to do."""
    with pytest.raises(ValueError, match=message):
        plan(**change)


@pytest.mark.parametrize("change", [{"source": "pixels"}, {"initialisation": "zeros"}, {"n_images": -1}])
def test_settings_without_sense_are_refused(change: dict) -> None:
    """With what is allowed."""
    with pytest.raises(ValueError, match=r"source is one of \('images', 'noise'\), initialisation one of .* >= 0"):
        Setting(**change)


def test_too_few_images_are_told_before_anything_is_scored(tmp_path: Path) -> None:
    """A batch that the training images do not fill is refused with both numbers."""
    with pytest.raises(ValueError, match="a batch of 128 images was asked for; there are 40 to train on"):
        score_networks(plan(settings=[Setting()], scores=["n_params", "nas_wot"]), IMAGES, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_default_device_is_looked_up_as_ever() -> None:
    """The published index still names the default settings; those of another device are told apart from them."""
    index = json.loads((ROOT / "results" / "records" / "training-free-scores" / "index.json").read_text())
    made = dict.fromkeys(range(1, 441), convolutions)
    published = Plan(made, list(runs.SCORES), repeated("default", 5, first_seed=1))
    found = runs.describe(published)
    assert found == runs.describe(published, "cpu")
    assert index["records"]["naap-440.csv"]["settings"] == found
    changed = {name for name, value in runs.describe(published, "cuda").items() if value != found[name]}
    assert changed == {"settings"}
    assert runs.describe(published, "cuda:1") == runs.describe(published, "cuda")


def test_networks_are_scored_on_the_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Network, images and labels are there, in all scores; finished pieces are not those of the CPU."""
    seen = set()

    def score(network: nn.Module, x: Tensor, labels: Tensor, mode: str) -> scores.Score:
        seen.update(str(tensor.device) for tensor in (*network.parameters(), x, labels))
        return scores.Score(1.0)

    monkeypatch.setitem(runs.SCORES, "snip", (score, 8))
    one = plan(networks={0: with_dropout}, scores=["snip"])
    for device in ("meta", "cpu"):
        score_networks(one, IMAGES, folder=tmp_path, device=device)
        assert seen == {device}
        seen.clear()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_the_scores_of_the_cpu() -> None:
    """To a hundredth, counts exactly; dropout draws the same again, and the GPU's generator is left alone."""
    one = Plan(
        {"net": partial(scheme_networks.build, SCHEME), 99: with_dropout}, list(runs.SCORES), [Setting(n_images=8)]
    )
    before = torch.cuda.get_rng_state()
    here, there, again = (score_networks(one, IMAGES, device=device)["value"] for device in ("cpu", "cuda", "cuda"))
    assert there.tolist() == again.tolist()
    assert torch.equal(torch.cuda.get_rng_state(), before)
    n = len(runs.SCORES)  # another generator drops other values
    assert there[:n].tolist() == pytest.approx(here[:n].tolist(), rel=0.01)


def test_draws_do_not_follow_the_default_device() -> None:
    """Images and noise are those of the CPU's generator, wherever new tensors are put."""
    for source in runs.SOURCES:
        expected = draw(IMAGES, Setting(source=source), n_images=8)
        with torch.device("meta"):
            found = draw(IMAGES, Setting(source=source), n_images=8)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
