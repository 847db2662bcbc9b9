"""An alignment without training, whose blocks have given Gram matrices."""

from hdjax.curvature import Alignment, Block
from hdjax.streaming import mixtures

STATE = [
    [2.05, -1.38, -0.06, 1.2, 0.1, 1.2],
    [-1.38, 2.24, -0.48, -0.5, 1.43, -0.5],
    [-0.06, -0.48, 1.35, -0.3, -0.55, 0.9],
    [1.2, -0.5, -0.3, 2.0, 0.0, 1.0],
    [0.1, 1.43, -0.55, 0.0, 2.42, 0.0],
    [1.2, -0.5, 0.9, 1.0, 0.0, 2.5],
]


TWO = (Block(0, "hessian", 2),)


def fixed(d, alpha, snr=4.0, blocks=TWO, **options):
    """No training: a given state at any dimension."""
    columns = mixtures.columns_with_gram(d, STATE)
    mixture = mixtures.mixture_softmax(
        d,
        3,
        snr=snr,
        learning_rate=1.0,
        probabilities=[0.5, 0.3, 0.2],
        start=columns[:, :3],
        means=columns[:, 3:],
    )
    return Alignment(mixture, blocks, alpha=alpha, **options)
