"""Random numbers that are a function of (key, tick, column) and of nothing else.

A random number is a function of a counter, so that a run has the same draws in whatever block,
chunk, batch and on whatever device it is computed.  The function is the cipher threefry2x32 with 20
rounds (J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel random numbers: as easy as 1, 2, 3",
SC 2011), applied twice:

    tick key = threefry(key, tick as 64 bits)           # what jax.random.fold_in(key, tick) does
    words    = threefry(tick key, (2^31 + plane, pair))  # two words of 32 bits a pair of columns

and a pair of words is a pair of independent normals (Box and Muller, 1958):

    (z_lo, z_hi) = sqrt(-2 log u) (cos, sin)(2 pi v),    u, v uniform.

The cipher is written in elementwise operations, which XLA compiles into one loop without a pass
over memory.  On a CPU it is 10 to 20 times faster than `jax.random.normal`, and twice as fast as
with the inverse error function in place of the formula of Box and Muller.  Logarithm, sine and
cosine are polynomials in float32, because those of XLA are slow in some versions of JAX; moreover
the polynomials give the same bits in the vectorised part of a loop and in its remainder.

One computation gives both normals of a pair, and XLA would repeat it for each array that is
written.  The primitive is therefore `normal_pairs`, which returns one complex array.

Range and resolution: a float32 normal is made from 31 bits of radius and 32 bits of angle, and its
largest value is sqrt(64 log 2) = 6.66.  A float64 normal uses a second pair of words (plane 1) as
the lower 32 bits of radius and angle, and its largest value is 9.49.  A float32 draw is the float64
draw up to rounding, so that a run in float32 follows the run in float64.  The law is symmetric, and
no draw is infinite.  Normals and uniforms of the same (key, tick, column) share their bits: each
purpose needs a `stream` of its own.

Keys form a tree, in which a key is either drawn from or folded into, never both:

    experiment's key -> run's key -> stream -> tick -> numbers

Only a `Stream` is folded into the key of a run, and ticks are folded into the key of a stream
(`at`), so that no two purposes of a run can have the same key.
"""

import enum
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Complex, Float, Int, Key, UInt32

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
_PLANE = 1 << 31

# Polynomials fitted by least squares at Chebyshev nodes; their relative errors in float32 are 9e-8
# (logarithm) and 1.4e-7 (sine and cosine).
# log(1 + f) = f - f^2 / 2 + f^3 P(f) for sqrt(1/2) <= 1 + f <= sqrt(2)
_LOG = (0.333333286, -0.250002965, 0.200014713, -0.166422509)
_LOG += (0.142021143, -0.129721452, 0.127126789, -0.0810227043)
# sin(pi s / 2) = s P(s^2) and cos(pi s / 2) = P(s^2) for |s| <= 1/2
_SIN = (1.57079632, -0.645963478, 0.0796802229, -0.00460216311)
_COS = (1.0, -1.23370054, 0.253669204, -0.0208600704, 0.000903629875)


class Stream(enum.IntEnum):
    """The independent streams of random numbers under one key: the list of the whole package.

    The streams of the families have small numbers.  The numbers of the engine's streams are larger
    than any tick, any number of a run and any argument of `jax.random.fold_in`.  A probe therefore
    shares no draw with a simulator, whatever the simulator folds into its key.
    """

    # Streams of a run's key, for the simulators.
    START = 0  # the start of a run: columns, a network, an overlap
    STEPS = 1  # the noise of the steps: samples, mini-batches, increments of a Brownian motion
    LABELS = 2  # label noise, and the mixture component of a sample
    FUNCTION = 3  # a random function, or its values at the points that a run visits
    NOISE = 4  # the noise that is added to a random function
    SCALE = 5  # the random factor of a function that is not Gaussian
    CHI = 6  # lengths of components orthogonal to the directions that are followed
    LOWER = 7  # entries below the diagonal of Bartlett's factor of a start
    COMPLEMENT = 8  # the component of a start orthogonal to the span of the target
    ORDER = 9  # the order in which the rows of a data set are used
    DATA = 10  # the data set of a run
    SAMPLES = 11  # fresh samples for an empirical matrix
    THETA = 12  # side parameters at the start
    SOLVER = 13  # the first guess of an eigenvalue solver
    SPACES = 14  # samples that determine the spaces onto which a gradient is projected
    READOUT = 15  # the initial values of a readout
    # A stream of a run's key, for the probes of the user.
    PROBES = 2**63
    # Streams of an experiment's key, beside the keys of its runs.
    POINTS = 2**63 + 1  # the points of a sweep with independent keys
    SIZES = 2**63 + 2  # the dimensions of a scaling
    FIT = 2**63 + 3  # the trainings to which a kernel is fitted
    THEORY = 2**63 + 4  # Monte Carlo averages within a theory


def stream(key: Key[Array, ""], which: Stream) -> Key[Array, ""]:
    """The key of one of the independent streams of a run or of an experiment.

    Args:
        key: Typed threefry key of a run or of an experiment.
        which: The purpose of the draws: the start, label noise, and so on.

    Returns:
        A typed key.

    Raises:
        TypeError: if the key is not a typed key.
        ValueError: if the key is not a single threefry key.

    Example:
        >>> import jax
        >>> from hdjax import random
        >>> start = random.stream(jax.random.key(0), random.Stream.START)
    """
    return at(key, which)


def at(key: Key[Array, ""], tick: int | Int[Array, "*shape"]) -> Key[Array, "*shape"]:
    """The key of a tick, of an epoch, or of anything else that is counted by an integer.

    The key depends on all 64 bits of the tick.  For ticks below 2^32 it is equal to
    `jax.random.fold_in(key, tick)`, which drops the upper 32 bits of a larger tick.

    Args:
        key: Typed threefry key, for example that of a stream.
        tick: Not negative: a Python integer below 2^64, or an array of 32 or 64 bits.

    Returns:
        A typed key for each tick.

    Raises:
        TypeError: if the key is not a typed key, or the tick not an integer.
        ValueError: if the key is not a single threefry key.

    Example:
        >>> import jax
        >>> from hdjax import random
        >>> steps = random.stream(jax.random.key(0), random.Stream.STEPS)
        >>> normals = jax.random.normal(random.at(steps, 2**40), (3,))
    """
    words = threefry2x32(_key_words(key), _words(tick))
    return jax.random.wrap_key_data(jnp.stack(words, axis=-1), impl="threefry2x32")


def restored(data: np.ndarray | Array, like: Key[Array, "*shape"]) -> Key[Array, "*shape"]:
    """The keys whose words, `jax.random.key_data`, were kept.

    Args:
        data: the words, in the shape of those of `like`.
        like: keys of the same kind and shape.

    Example:
        >>> key = jax.random.key(3)
        >>> bool(restored(np.array(jax.random.key_data(key)), key) == key)
        True
    """
    return jax.random.wrap_key_data(jnp.asarray(data), impl=jax.random.key_impl(like))


def normals(
    key: Key[Array, ""],
    tick: int | Int[Array, ""],
    rows: int,
    cols: int,
    dtype: DTypeLike = jnp.float32,
) -> Float[Array, "rows cols"]:
    """Standard normals of the ticks tick, tick + 1, ..., tick + rows - 1.

    Args:
        key: Typed threefry key of a run (`jax.random.key`).
        tick: First tick, not negative: a Python integer, or a traced scalar of 32 or 64 bits.
        rows: Number of ticks (static).
        cols: Numbers per tick (static), below 2^32.
        dtype: float32 or float64.

    Returns:
        One row per tick: the real parts of `normal_pairs`, then the imaginary parts.

    Raises:
        TypeError: if the key is not a typed key, or the tick not an integer.
        ValueError: if the key is not a single threefry key, or `dtype` is neither of the two.

    Example:
        >>> import jax
        >>> from hdjax import random
        >>> random.normals(jax.random.key(0), 100, rows=2, cols=3).shape
        (2, 3)
    """
    # Without the barrier XLA computes the pairs twice and compiles ten times as long (JAX 0.12).
    pairs = lax.optimization_barrier(normal_pairs(key, tick, rows, -(-cols // 2), dtype))
    return jnp.concatenate([pairs.real, pairs.imag[:, : cols // 2]], axis=1)


def normal_pairs(
    key: Key[Array, ""],
    tick: int | Int[Array, ""],
    rows: int,
    pairs: int | UInt32[Array, " pairs"],
    dtype: DTypeLike = jnp.float32,
) -> Complex[Array, "rows pairs"]:
    """Standard normals in the form in which they are computed: pairs, in one complex array.

    Args:
        key: As in `normals`.
        tick: As in `normals`.
        rows: As in `normals`.
        pairs: Half the number of normals per tick (static), below 2^31; or the numbers of some of
            these pairs, for a device that needs no others.
        dtype: float32 or float64, the type of the real and of the imaginary part.

    Returns:
        A complex array whose real and imaginary parts are independent standard normals.

    Raises:
        TypeError, ValueError: As in `normals`.
    """
    return lax.complex(*_box_muller(*_planes(key, tick, rows, pairs, dtype), jnp.dtype(dtype)))


def uniforms(
    key: Key[Array, ""],
    tick: int | Int[Array, ""],
    rows: int,
    cols: int,
    dtype: DTypeLike = jnp.float32,
) -> Float[Array, "rows cols"]:
    """Uniforms in the open interval (0, 1) of the ticks tick, ..., tick + rows - 1.

    The values are midpoints of 2^23 (float32) or 2^52 (float64) equal cells, so that 0 and 1 do
    not occur.

    Args:
        key: As in `normals`.
        tick: As in `normals`.
        rows: As in `normals`.
        cols: As in `normals`.
        dtype: As in `normals`.

    Returns:
        One row per tick.

    Raises:
        TypeError, ValueError: As in `normals`.
    """
    high, low = _planes(key, tick, rows, -(-cols // 2), dtype)
    if low is None:
        halves = [((word >> 9).astype(jnp.float32) + 0.5) * 2.0**-23 for word in high]
    else:
        halves = [
            (a.astype(jnp.float64) * 2.0**20 + (b >> 12).astype(jnp.float64) + 0.5) * 2.0**-52
            for a, b in zip(high, low, strict=True)
        ]
    return jnp.concatenate([halves[0], halves[1][:, : cols // 2]], axis=1)


def threefry2x32(
    key: tuple[UInt32[Array, "..."], UInt32[Array, "..."]],
    counter: tuple[UInt32[Array, "..."], UInt32[Array, "..."]],
) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:
    """The cipher threefry2x32 with 20 rounds, elementwise: a bijection of 64 bits for each key.

    Args:
        key: Two words of 32 bits, as two arrays.
        counter: Two words of 32 bits, as two arrays that broadcast with those of the key.

    Returns:
        Two words of 32 bits, as two arrays.
    """
    schedule = (*key, key[0] ^ key[1] ^ _PARITY)
    x, y = counter[0] + schedule[0], counter[1] + schedule[1]
    for i in range(5):
        for r in _ROTATIONS[i % 2]:
            x = x + y
            y = ((y << r) | (y >> (32 - r))) ^ x
        x = x + schedule[(i + 1) % 3]
        y = y + schedule[(i + 2) % 3] + np.uint32(i + 1)
    return x, y


def _key_words(key):
    if not (isinstance(key, jax.Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise TypeError(f"key: {key!r}; allowed: a typed key, as made by jax.random.key")
    data = jax.random.key_data(key)
    cipher = str(jax.random.key_impl(key))
    if data.shape != (2,) or cipher != "threefry2x32":
        raise ValueError(
            f"key: {cipher} of shape {key.shape}; allowed: one key for threefry2x32, as made by "
            "jax.random.key(seed, impl='threefry2x32')"
        )
    return data[0], data[1]


def _words(tick):
    """High and low words of a tick, or of an array of ticks."""
    if isinstance(tick, int | np.integer):
        return jnp.uint32(int(tick) >> 32), jnp.uint32(int(tick) & 0xFFFFFFFF)
    if not jnp.issubdtype(tick.dtype, jnp.integer):
        raise TypeError(f"tick: {tick.dtype}; allowed: an integer")
    low = tick.astype(jnp.uint32)
    wide = tick.dtype.itemsize == 8
    return (tick >> 32).astype(jnp.uint32) if wide else jnp.zeros_like(low), low


def _rows(tick, rows):
    """High and low words of the ticks tick, ..., tick + rows - 1, as columns."""
    high, low = _words(tick)
    lows = lax.broadcasted_iota(jnp.uint32, (rows, 1), 0) + low
    return high + (lows < low).astype(jnp.uint32), lows


def _planes(key, tick, rows, pairs, dtype):
    """Two random words for each (row, pair), and two further words for float64 (else None)."""
    if jnp.dtype(dtype) not in (jnp.float32, jnp.float64):
        raise ValueError(f"dtype: {jnp.dtype(dtype)}; allowed: float32 or float64")
    tick_key = threefry2x32(_key_words(key), _rows(tick, rows))
    if isinstance(pairs, int):
        pair = lax.broadcasted_iota(jnp.uint32, (rows, pairs), 1)
    else:
        pair = jnp.broadcast_to(pairs, (rows, *pairs.shape))
    high = threefry2x32(tick_key, (jnp.uint32(_PLANE), pair))
    if jnp.dtype(dtype) == jnp.float32:
        return high, None
    return high, threefry2x32(tick_key, (jnp.uint32(_PLANE + 1), pair))


def _box_muller(high, low, dtype):
    """Two standard normals from two words `high`; the words `low` are the lower bits of float64."""
    radius_word, angle_word = high
    # The lower 30 bits of the angle word are s in (-1/2, 1/2) quarter turns, a midpoint of a cell.
    s = _signed(angle_word << 2).astype(dtype) * 2.0**-32
    if low is None:
        # 31 bits, because only signed integers convert fast; the added half keeps u above 0.
        log_u = _log(_signed(radius_word >> 1).astype(dtype) * 2.0**-31 + 2.0**-32)
        sine, cosine = _sine_cosine(s + 2.0**-31)
    else:
        radius_bits, angle_bits = (word.astype(dtype) * 2.0**-64 + 2.0**-65 for word in low)
        log_u = jnp.log(radius_word.astype(dtype) * 2.0**-32 + radius_bits)
        angle = (s + 4 * angle_bits) * (math.pi / 2)
        sine, cosine = jnp.sin(angle), jnp.cos(angle)
    # The upper two bits are a half turn, the sign of both numbers, and a quarter turn, their order.
    radius = jnp.sqrt(-2 * log_u)
    radius = jnp.where(_signed(angle_word) < 0, -radius, radius)
    quarter = _signed(angle_word << 1) < 0
    return (
        radius * jnp.where(quarter, sine, cosine),
        radius * jnp.where(quarter, cosine, sine),
    )


def _signed(word):
    return lax.bitcast_convert_type(word, jnp.int32)


def _log(u):
    """The logarithm of positive float32 numbers that are not subnormal."""
    bits = lax.bitcast_convert_type(u, jnp.int32)
    exponent = (bits - np.int32(0x3F3504F3)) >> 23  # the mantissa in [sqrt(1/2), sqrt(2))
    f = lax.bitcast_convert_type(bits - (exponent << 23), jnp.float32) - 1
    rest = f * f * (f * _polynomial(f, _LOG) - 0.5)
    return exponent.astype(jnp.float32) * math.log(2) + (f + rest)


def _sine_cosine(s):
    square = s * s
    return s * _polynomial(square, _SIN), _polynomial(square, _COS)


def _polynomial(x, coefficients):
    value = x * coefficients[-1] + coefficients[-2]
    for c in coefficients[-3::-1]:
        value = value * x + c
    return value
