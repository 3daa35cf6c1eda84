"""Dense networks side by side: each as torch would train it alone."""

import pytest
import torch
from torch import Tensor, nn

from naaplib.estimators.ensembles.dense import Schedule, forward, initialise, train

DOUBLE = torch.float64
SIZES = [5, 7, 6, 2]


def generators(n: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(n)]


def made_task() -> tuple[Tensor, Tensor, Tensor]:
    """Features (23, 5), targets (23, 2), importance (3, 23, 2), a third of which is 0."""
    generator = torch.Generator().manual_seed(9)
    features = torch.randn(23, 5, generator=generator, dtype=DOUBLE)
    targets = torch.stack([features[:, 0] * features[:, 1], features[:, 2].sin()], dim=1)
    importance = torch.randint(3, (3, 23, 2), generator=generator).to(DOUBLE)
    return features, targets, importance


def slow_train(
    weights: list[Tensor],
    features: Tensor,
    targets: Tensor,
    importance: Tensor,
    schedule: Schedule,
    generator: torch.Generator,
) -> nn.Sequential:
    """One network of torch's own layers, with its optimiser and schedule, row by row in the loss."""
    layers: list[nn.Module] = []
    for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
        layer = nn.Linear(*kernel.shape).double()
        layer.load_state_dict({"weight": kernel.T, "bias": bias[0]})
        layers += [layer, nn.SiLU()]
    network = nn.Sequential(*layers[:-1])
    adam = torch.optim.AdamW(network.parameters(), schedule.rate, weight_decay=schedule.decay)
    size = schedule.batch_size or len(features)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, schedule.n_epochs * -(-len(features) // size))
    for _ in range(schedule.n_epochs):
        order = torch.arange(len(features))
        if schedule.batch_size:
            order = torch.randperm(len(features), generator=generator)
        for batch in order.split(size):
            adam.zero_grad()
            terms = [importance[row] * (network(features[row]) - targets[row]) ** 2 for row in batch]
            (torch.stack(terms).sum() / importance[batch].sum()).backward()
            adam.step()
            cosine.step()
    return network


@pytest.mark.parametrize("batch_size", [None, 5])
def test_training_equals_torchs_own_one_by_one(batch_size: int | None) -> None:
    """In float64 to 1e-9, with all rows and with a smaller last batch, errors weighted and left out."""
    features, targets, importance = made_task()
    schedule = Schedule(n_epochs=12, rate=0.01, decay=0.1, batch_size=batch_size)
    weights = initialise(SIZES, generators(3), dtype=DOUBLE)
    start = [part.clone() for part in weights]
    train(weights, features, targets=targets, importance=importance, schedule=schedule, generators=generators(3))
    actual = forward(weights, features)
    for i, generator in enumerate(generators(3)):
        one = [part[i].clone() for part in start]
        network = slow_train(one, features, targets, importance[i], schedule, generator)
        torch.testing.assert_close(actual[i], network(features).detach(), rtol=0, atol=1e-9)
    assert (actual - forward(start, features)).abs().mean() > 0.05
    assert not any(part.requires_grad for part in weights)


def test_rows_of_no_importance_do_not_matter() -> None:
    """Neither their targets nor their features, nor whether they are there."""
    features, targets, importance = made_task()
    importance[:, 15:] = 0
    outputs = []
    for x, goal, counted in [
        (features, targets, importance),
        (torch.cat([features[:15], features[15:] + 3]), torch.cat([targets[:15], targets[15:] - 5]), importance),
        (features[:15], targets[:15], importance[:, :15]),
    ]:
        weights = initialise(SIZES, generators(3), dtype=DOUBLE)
        train(weights, x, targets=goal, importance=counted, schedule=Schedule(10), generators=generators(3))
        outputs.append(forward(weights, features))
    for other in outputs[1:]:
        torch.testing.assert_close(other, outputs[0], rtol=0, atol=1e-12)


def test_an_output_that_never_counts_keeps_its_head() -> None:
    """Nor does a batch without importance move anything or become NaN."""
    features, targets, importance = made_task()
    importance[:] = 0
    weights = initialise(SIZES, generators(3), dtype=DOUBLE)
    start = [part.clone() for part in weights]
    train(
        weights,
        features,
        targets=targets,
        importance=importance,
        schedule=Schedule(3, batch_size=4),
        generators=generators(3),
    )
    assert all(torch.equal(*pair) for pair in zip(weights, start, strict=True))
    importance[:, :, 0] = 1
    train(weights, features, targets=targets, importance=importance, schedule=Schedule(3), generators=generators(3))
    assert torch.equal(weights[-1][..., 1], start[-1][..., 1])
    assert not torch.equal(weights[-1][..., 0], start[-1][..., 0])


def test_starts_are_drawn_from_each_networks_generator() -> None:
    """Within the root of six over a layer's inputs, nearly up to it; a network alone is as among others."""
    weights = initialise([100, 50, 3], generators(4), dtype=torch.float32)
    assert [(*part.shape,) for part in weights] == [(4, 100, 50), (4, 1, 50), (4, 50, 3), (4, 1, 3)]
    assert 0.9999 < weights[0].abs().max() / 0.06**0.5 <= 1
    alone = initialise([100, 50, 3], generators(4)[2:3], dtype=torch.float32)
    assert all(torch.equal(part[2:3], one) for part, one in zip(weights, alone, strict=True))
    assert not torch.equal(weights[0][0], weights[0][1])


def test_outputs_by_hand() -> None:
    """One unit: SiLU(2 x 3 + 1) x -0.5 + 0.25."""
    weights = [torch.tensor([[[value]]], dtype=DOUBLE) for value in (2.0, 1.0, -0.5, 0.25)]
    expected = -0.5 * 7 / (1 + torch.tensor(-7.0, dtype=DOUBLE).exp()) + 0.25
    torch.testing.assert_close(forward(weights, torch.tensor([[3.0]], dtype=DOUBLE)), expected[None, None, None])


@pytest.mark.parametrize("wrong", [{"n_epochs": 0}, {"n_epochs": 1, "batch_size": 0}])
def test_schedules_that_cannot_be_are_refused(wrong: dict) -> None:
    """No epochs, or batches of none."""
    with pytest.raises(ValueError, match="must be at least 1"):
        Schedule(**wrong)
