"""The recipe: published numbers, and the published order of images."""

import doctest
import hashlib
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from naaplib.training import recipe
from naaplib.training.recipe import Recipe


def test_examples_in_docstrings() -> None:
    """What the docstrings show is what happens."""
    result = doctest.testmod(recipe)
    assert (result.attempted, result.failed) == (3, 0)


def test_learning_rate_restarts_every_three_epochs() -> None:
    """The published cycle, over all 90 epochs: 0.1, 0.01, 0.001, thirty times."""
    rates = [Recipe().learning_rate(epoch) for epoch in range(1, 91)]
    np.testing.assert_allclose(rates, [0.1, 0.01, 0.001] * 30)


def test_learning_rate_of_another_recipe() -> None:
    """Rate, decay and cycle are the user's: halved each epoch, restarted after two."""
    other = Recipe(initial_rate=1.0, decay=0.5, cycle=2)
    assert [other.learning_rate(epoch) for epoch in (1, 2, 3, 4)] == [1.0, 0.5, 1.0, 0.5]


def test_published_order_of_images() -> None:
    """All 90 permutations of the published run, by checksum (as little-endian int32, one after the other)."""
    state = hashlib.sha256()
    for order in recipe.batch_orders():
        state.update(order.numpy().astype("<i4").tobytes())
    assert state.hexdigest() == "7938682ae762ac02d7d236f11ebcb9b813412ad2f57eddceafdec5fa4201cc5c"


class GlobalPermutation(torch.utils.data.Sampler):
    """Sampler as in the torch of the published run, which permuted with the global generator itself."""

    def __iter__(self) -> Iterator[int]:
        yield from torch.randperm(7).tolist()


def test_order_equals_draws_from_the_global_generator() -> None:
    """Literal twin: torch seeded as in the published script, its data loaders making the draws."""
    torch.manual_seed(11)
    numbers = torch.utils.data.TensorDataset(torch.arange(7))
    train = torch.utils.data.DataLoader(numbers, batch_size=2, sampler=GlobalPermutation())
    test = torch.utils.data.DataLoader(numbers, batch_size=2)
    expected = []
    for _ in range(3):
        expected.append([int(i) for (batch,) in train for i in batch])
        list(test)
    assert [order.tolist() for order in recipe.batch_orders(seed=11, n_epochs=3, n_images=7)] == expected


def test_order_does_not_depend_on_other_draws() -> None:
    """Drawing from torch's global generator in between changes nothing, nor do the orders move that generator."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    plain = [order.tolist() for order in recipe.batch_orders(seed=1, n_epochs=3, n_images=20)]
    assert torch.equal(torch.get_rng_state(), before)
    disturbed = [(torch.rand(3), order.tolist())[1] for order in recipe.batch_orders(seed=1, n_epochs=3, n_images=20)]
    assert disturbed == plain


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_epochs": 0}, "a recipe's n_epochs must be a whole number, 1 or more, not 0"),
        ({"batch_size": 2.5}, "a recipe's batch_size must be a whole number, 1 or more, not 2.5"),
        ({"cycle": True}, "a recipe's cycle must be a whole number, 1 or more, not True"),
        ({"initial_rate": -0.1}, "a recipe's initial_rate must be a finite number, 0 or more, not -0.1"),
        ({"decay": float("nan")}, "a recipe's decay must be a finite number, 0 or more, not nan"),
        ({"weight_decay": "1e-4"}, "a recipe's weight_decay must be a finite number, 0 or more, not '1e-4'"),
        ({"momentum": 1.0}, "a recipe's momentum must be below 1, not 1.0"),
    ],
)
def test_impossible_recipes_are_refused(change: dict, message: str) -> None:
    """A number that no training can use is refused with what came and what is allowed."""
    with pytest.raises(ValueError, match=f"^{message}$"):
        Recipe(**change)


def test_epochs_are_counted_from_one() -> None:
    """There is no epoch 0."""
    with pytest.raises(ValueError, match="epochs are counted from 1, there is no epoch 0"):
        Recipe().learning_rate(0)


def test_numbers_of_numpy_make_the_same_recipe() -> None:
    """Checkpoints and provenance hold Python's."""
    found = Recipe(n_epochs=np.int64(3), momentum=np.float32(0.5))
    assert found == Recipe(n_epochs=3, momentum=0.5)
    assert [type(found.n_epochs), type(found.momentum)] == [int, float]
