"""Search under a budget: learning rate, width and depth of a network for 1,797 digits, by HyperBand.

    python search_budget.py [BUDGET]

BUDGET is the number of epochs of the whole search, 200 by default. The search goes on from search_budget.jsonl, which
a longer budget may follow; the picture is search_budget.png.
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch import nn

import naaplib

digits = load_digits()
x = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
y = torch.tensor(digits.target)
order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
train, validation = order[:1200], order[1200:]

SPACE = {
    "rate": [0.003, 0.01, 0.03, 0.1, 0.3],
    "width": range(4, 33),
    "depth": [1, 2, 3],
    "dropout": [0.0, 0.2, 0.5],
}
unfinished = {}  # networks by configuration, so that a promoted one is trained on, not again


def build(params):
    """A stack of convolutions before a linear layer."""
    layers, width = [], 1
    for _ in range(params["depth"]):
        layers += [nn.Conv2d(width, params["width"], 3, padding=1), nn.BatchNorm2d(params["width"]), nn.ReLU()]
        width = params["width"]
    return nn.Sequential(
        *layers, nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(params["dropout"]), nn.Linear(16 * width, 10)
    )


def objective(params, n_epochs):
    """Train to so many epochs in all; return the validation accuracy."""
    key = tuple(params.values())
    if key not in unfinished:
        torch.manual_seed(0)
        network = build(params)
        unfinished[key] = network, torch.optim.SGD(network.parameters(), params["rate"], momentum=0.9), []
    network, optimizer, losses = unfinished[key]
    network.train()
    while len(losses) < n_epochs:
        for rows in train[torch.randperm(len(train))].split(100):
            loss = nn.functional.cross_entropy(network(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    network.eval()
    with torch.no_grad():
        return (network(x[validation]).argmax(1) == y[validation]).float().mean().item()


if __name__ == "__main__":
    budget = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    study = naaplib.search(SPACE, objective, budget=budget, max_epochs=27, seed=0, storage="search_budget.jsonl")
    table = study.trials_dataframe()
    print(f"{len(table)} evaluations of {table.filter(like='params').drop_duplicates().shape[0]} configurations")
    print(f"best: {study.best_params}, accuracy {study.best_value:.3f}")
    study.plot_trajectory().figure.savefig("search_budget.png")
