"""Figures of a search space: everything in the table is drawn, in its place."""

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from naaplib.architectures import schemes
from naaplib.studies.search_space import figures, tree

POPULATION = schemes.enumerate_schemes()


def boxes(axes: Axes) -> list[Rectangle]:
    return [patch for container in axes.containers for patch in container]


def test_every_network_is_a_point(axes: Axes) -> None:
    """440 points in four groups, whose legend says how many; sizes are where the table has them."""
    features = schemes.feature_table(POPULATION)
    figures.draw_sizes(axes, features, x="NumParams", y="NumMACs")
    points = {tuple(point) for group in axes.collections for point in group.get_offsets().filled().tolist()}
    assert points == set(zip(features["NumParams"], features["NumMACs"], strict=True))
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names[:4] == [
        "3 blocks, 2 stages (32)",
        "3 blocks, 3 stages (24)",
        "4 blocks, 2 stages (144)",
        "4 blocks, 3 stages (240)",
    ]


def test_every_node_is_a_box_as_high_as_its_schemes(axes: Axes) -> None:
    """446 boxes, from the first scheme of a node to its last; the six large ones carry their number of schemes."""
    nodes = tree.nodes(POPULATION)
    figures.draw_tree(axes, nodes)
    drawn = {(box.get_x() + 0.48, box.get_y() + 0.5, box.get_height()) for box in boxes(axes)}
    assert {(round(x), y, height) for x, y, height in drawn} == set(
        zip(nodes["depth"], nodes["first"], nodes["n_schemes"], strict=True)
    )
    labels = [text.get_text().split("\n")[1] for text in axes.texts]
    assert labels == ["220 schemes"] * 2 + ["110 schemes"] * 4


def test_every_scheme_of_a_branch_is_a_field(axes: Axes) -> None:
    """The fields carry the 110 ModelIds of the first branch; scheme 1, which ends, stands in the first column."""
    figures.draw_branch(axes, tree.branch(POPULATION, POPULATION[0][:2]))
    places = {int(text.get_text()): text.get_position() for text in axes.texts}
    assert sorted(places) == list(range(1, 111))
    assert places[1] == (0, 0)
    assert len(set(places.values())) == 110
