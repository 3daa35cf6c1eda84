"""Train a population of one's own, and fit a predictor that finds the best of the rest.

    python own_population.py [N_TRAINED [N_EPOCHS]]

Of a space of one's own, N_TRAINED networks (60 by default) are trained for N_EPOCHS (9) on 1,797 digits. A predictor
learns from them and ranks the others; its first ten are trained too, beside ten at random. Checkpoints lie in
own_population/, from which a stopped run goes on; the picture is own_population.png.
"""

import sys

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_predict

import naaplib
from naaplib.architectures.schemes import BlockOptions, Space, enumerate_schemes
from naaplib.estimators.candidates import ArdGaussianProcess, standardised
from naaplib.tables import features
from naaplib.training.cifar10 import Images

SPACE = Space(
    blocks=(
        BlockOptions(kernel_sizes=(1, 3), widths=(4, 8, 12), strides=(1,)),
        BlockOptions(kernel_sizes=(1, 3), widths=(8, 12, 16), strides=(1, 2), residuals=(False, True)),
        BlockOptions(kernel_sizes=(1, 3), widths=(12, 16), strides=(1, 2), residuals=(False, True)),
    ),
    min_blocks=2,
    max_strided=2,
)


def images():
    """The digits as `naaplib` takes images: uint8, three equal channels."""
    digits = load_digits()
    pixels = torch.tensor(np.minimum(digits.images * 16, 255), dtype=torch.uint8)[:, None].expand(-1, 3, -1, -1)
    labels = torch.tensor(digits.target)
    return Images(pixels[:1000].contiguous(), labels[:1000], pixels[1000:].contiguous(), labels[1000:])


if __name__ == "__main__":
    n_trained, n_epochs = (int(sys.argv[i]) if len(sys.argv) > i else default for i, default in ((1, 60), (2, 9)))
    schemes = dict(enumerate(enumerate_schemes(SPACE), start=1))
    drawn = np.random.default_rng(0).permutation(list(schemes))
    known, rest = drawn[:n_trained], drawn[n_trained:]

    def train(names):
        """Test accuracies of these networks after the last epoch."""
        some = {int(name): schemes[int(name)] for name in names}
        table = naaplib.train_population(some, images(), n_epochs=n_epochs, folder="own_population")
        return table[table["epoch"] == n_epochs].set_index("ModelId")["accuracy"]

    reached = train(known)
    X = features.blocks(list(schemes.values())).set_index("ModelId")
    model = standardised(ArdGaussianProcess())
    held_out = cross_val_predict(model, X.loc[reached.index], reached, cv=10)
    model.fit(X.loc[reached.index], reached)
    ranked = rest[np.argsort(-model.predict(X.loc[rest]))]
    chosen, others = train(ranked[:10]), train(rest[:10])
    print(f"{len(schemes)} networks in the space, {len(known)} trained for {n_epochs} epochs")
    print(f"on average they reach {reached.mean():.3f}")
    print(f"ten that the predictor chose: {chosen.mean():.3f}; ten at random: {others.mean():.3f}")
    naaplib.plot_predictions(reached, held_out).figure.savefig("own_population.png")
