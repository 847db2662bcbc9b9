"""Small networks for images, with Glorot's uniform weights and zero biases, and losses for them.

They are plain Equinox modules, and `Training` takes any other as well.  A convolution is written as
one matrix product with patches: on a CPU it is several times faster than XLA's own (width factor 4,
8 x 8 images: ten times), and it is a batched product when many networks run side by side.
Source of the experiments: arXiv 2410.09973, figure 1.
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from hdjax.checks import Checked
from hdjax.registry import PositiveFloat, Size

_CHANNELS = 16, 32


class Dense(Checked):
    """The layer x W + b, with W uniform of variance 2/(fan_in + fan_out) and b = 0 at the start.

    This is Glorot's law of the weights (Glorot and Bengio, 2010).

    Args:
        inputs: the number of inputs of each output, fan_in.
        outputs: the number of outputs.
        copies: the number of positions at which an input enters with the same weights: 9 for a 3 x
            3 convolution (fan_out = copies outputs; `inputs` counts the patch already).
        key: the key of the weights.

    Example:
        >>> Dense(3, 2, key=jax.random.key(0))(jnp.zeros(3)).shape
        (2,)
    """

    weight: Float[Array, "inputs outputs"]
    bias: Float[Array, " outputs"]

    def __init__(self, inputs: Size, outputs: Size, *, copies: Size = 1, key: Key[Array, ""]):
        bound = jnp.sqrt(6 / jnp.asarray(inputs + copies * outputs, jnp.result_type(float)))
        uniform = jax.random.uniform(key, (inputs, outputs), bound.dtype, -1.0, 1.0)
        self.weight, self.bias = bound * uniform, jnp.zeros(outputs, bound.dtype)

    def __call__(self, x: Float[Array, "*shape inputs"]) -> Float[Array, "*shape outputs"]:
        """The layer applied to the last axis of x."""
        product = jnp.dot(x, self.weight)
        return product + self.bias.reshape((1,) * (product.ndim - 1) + (-1,))


class CNN(Checked):
    """Two 3 x 3 convolutions, each with ReLU and 2 x 2 max-pooling, and one dense layer.

    The convolutions have 16 and 32 channels times `width`.  They keep the size of the image (with
    zeros around it), so that images have at least 4 x 4 pixels.  Such a network is trained in
    figure 1 of arXiv 2410.09973.

    Args:
        shape: the shape of an image, (height, width) or (height, width, channels).
        classes: the number of outputs.
        width: factor of the numbers of channels.
        key: the key of the weights.

    Raises:
        ValueError: images are below 4 x 4 or have another number of axes, there is no class, or no
            channel is left.

    Example:
        >>> network = CNN((8, 8), width=0.25, key=jax.random.key(0))
        >>> network(jnp.zeros((8, 8))).shape
        (10,)
    """

    first: Dense
    second: Dense
    last: Dense

    def __init__(
        self,
        shape: Sequence[Size],
        classes: Size = 10,
        width: PositiveFloat = 1.0,
        *,
        key: Key[Array, ""],
    ):
        if len(shape) not in (2, 3) or min(shape[:2]) < 4 or shape[-1] < 1:
            raise ValueError(
                f"shape: {tuple(shape)}; allowed: (height, width) or (height, width, channels), "
                "from 4 x 4 pixels on"
            )
        a, b = (round(channels * width) for channels in _CHANNELS)
        if a < 1:
            raise ValueError(f"width: {width}; allowed: at least 1/16, which is one channel")
        keys = jax.random.split(key, 3)
        channels = shape[2] if len(shape) == 3 else 1
        self.first = Dense(9 * channels, a, copies=9, key=keys[0])
        self.second = Dense(9 * a, b, copies=9, key=keys[1])
        self.last = Dense((shape[0] // 4) * (shape[1] // 4) * b, classes, key=keys[2])

    def __call__(self, image: Float[Array, "height width *channels"]) -> Float[Array, " classes"]:
        """The logits of an image."""
        x = image.reshape(*image.shape[:2], -1)
        for layer in (self.first, self.second):
            x = _pool(jax.nn.relu(layer(_patches(x))))
        return self.last(x.ravel())


class MLP(Checked):
    """Dense layers with an activation between them, on inputs of any shape.

    Args:
        inputs: the number of entries of an input.
        hidden: widths of the hidden layers; none: multinomial regression.
        outputs: the number of outputs.
        activation: activation of the hidden layers.
        key: the key of the weights.

    Raises:
        ValueError: a width is below 1.

    Example:
        >>> network = MLP(64, [32], 10, key=jax.random.key(0))
        >>> network(jnp.zeros((8, 8))).shape
        (10,)
    """

    layers: tuple[Dense, ...]
    activation: Callable = eqx.field(static=True)

    def __init__(
        self,
        inputs: Size,
        hidden: Sequence[Size],
        outputs: Size = 10,
        activation: Callable = jax.nn.relu,
        *,
        key: Key[Array, ""],
    ):
        sizes = [inputs, *hidden, outputs]
        keys = jax.random.split(key, len(sizes) - 1)
        self.layers = tuple(
            Dense(a, b, key=k) for a, b, k in zip(sizes, sizes[1:], keys, strict=False)
        )
        self.activation = activation

    def __call__(self, x: Float[Array, "..."]) -> Float[Array, " outputs"]:
        """The outputs for one input."""
        x = x.ravel()
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)


def cross_entropy(network: Any, x: Array, y: Int[Array, ""]) -> Float[Array, ""]:
    """The cross-entropy -log softmax(network(x))_y of one sample of class y.

    Example:
        >>> float(cross_entropy(lambda x: x, jnp.zeros(2), jnp.asarray(1)).round(4))
        0.6931
    """
    logits = network(x)
    return jax.nn.logsumexp(logits) - logits[y]


def squared_error(network: Any, x: Array, y: Array) -> Float[Array, ""]:
    """The squared error |network(x) - y|^2/2 of one sample.

    Raises:
        ValueError: the target has another shape than the output.

    Example:
        >>> float(squared_error(lambda x: x, jnp.ones(2), jnp.zeros(2)))
        1.0
    """
    output, y = jnp.asarray(network(x)), jnp.asarray(y)
    if output.shape != y.shape:
        raise ValueError(f"y: shape {y.shape}; allowed: {output.shape}, the output's shape")
    return ((output - y) ** 2).sum() / 2


def _patches(x: Float[Array, "h w c"]) -> Float[Array, "h w 9*c"]:
    """The 3 x 3 neighbourhood of every pixel, zeros around the image."""
    h, w, _ = x.shape
    padded = jnp.pad(x, ((1, 1), (1, 1), (0, 0)))
    shifted = [padded[i : i + h, j : j + w] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifted, axis=-1)


def _pool(x: Float[Array, "h w c"]) -> Float[Array, "h//2 w//2 c"]:
    """Maxima over 2 x 2 squares; an odd row or column at the end is left out."""
    h, w, c = x.shape[0] // 2, x.shape[1] // 2, x.shape[2]
    return x[: 2 * h, : 2 * w].reshape(h, 2, w, 2, c).max((1, 3))
