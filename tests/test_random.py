"""The counter-based generator: its bits, its laws, its independence of how it is called."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from scipy import stats

from hdjax import random
from hdjax.random import Stream

pytestmark = pytest.mark.optimised

KEY = jax.random.key(20)
normals = jax.jit(random.normals, static_argnums=(2, 3, 4))
uniforms = jax.jit(random.uniforms, static_argnums=(2, 3, 4))


def reference_threefry(key, counter):
    """Threefry2x32-20 in NumPy, in the words of the paper: R_0..R_7, injection every 4 rounds."""
    mask = np.uint64(0xFFFFFFFF)
    ks = [np.uint64(k) for k in key]
    ks.append(ks[0] ^ ks[1] ^ np.uint64(0x1BD11BDA))
    x = [(np.asarray(c, np.uint64) + k) & mask for c, k in zip(counter, ks[:2], strict=True)]
    for r in range(20):
        shift = np.uint64([13, 15, 26, 6, 17, 29, 16, 24][r % 8])
        x[0] = (x[0] + x[1]) & mask
        x[1] = (((x[1] << shift) | (x[1] >> (np.uint64(32) - shift))) & mask) ^ x[0]
        if r % 4 == 3:
            i = r // 4 + 1
            x[0] = (x[0] + ks[i % 3]) & mask
            x[1] = (x[1] + ks[(i + 1) % 3] + np.uint64(i)) & mask
    return x


def reference_words(key, tick, pairs, plane):
    tick_key = reference_threefry(np.asarray(jax.random.key_data(key)), (tick >> 32, tick % 2**32))
    return reference_threefry(tick_key, (np.full(pairs, 2**31 + plane), np.arange(pairs)))


def reference_normals(key, tick, cols):
    """Box-Muller with NumPy's functions from the 64 bits of both planes."""
    pairs = -(-cols // 2)
    high, low = (reference_words(key, tick, pairs, plane) for plane in (0, 1))
    u, v = (
        a.astype(float) * 2.0**-32 + (b.astype(float) + 0.5) * 2.0**-64
        for a, b in zip(high, low, strict=True)
    )
    quadrant = np.floor(4 * v)
    s = 4 * v - quadrant  # in [0, 1): two's complement of the 30 bits
    angle = np.pi / 2 * np.where(s < 0.5, s, s - 1)
    r = np.sqrt(-2 * np.log(u)) * np.where(quadrant >= 2, -1, 1)
    c, s = r * np.cos(angle), r * np.sin(angle)
    swap = quadrant % 2 == 1
    return np.concatenate([np.where(swap, s, c), np.where(swap, c, s)[: cols // 2]])


def test_threefry_known_answers():
    # kat_vectors of Random123 1.14
    for key, counter, answer in [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((2**32 - 1,) * 2, (2**32 - 1,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ]:
        words = random.threefry2x32(
            tuple(jnp.uint32(k) for k in key), tuple(jnp.uint32(c) for c in counter)
        )
        assert tuple(int(w) for w in words) == answer
        assert tuple(int(w) for w in reference_threefry(key, counter)) == answer


def test_tick_key_is_fold_in():
    words = reference_threefry(np.asarray(jax.random.key_data(KEY)), (0, 12345))
    folded = jax.random.key_data(jax.random.fold_in(KEY, 12345))
    assert [int(w) for w in words] == [int(w) for w in folded]


@pytest.mark.parametrize("cols", [1, 2, 7, 64])
def test_normals_are_box_muller_of_the_words(cols):
    ticks = [0, 3, 2**32 - 1, 2**32 + 3, 2**45]
    for tick in ticks:
        expected = reference_normals(KEY, tick, cols)
        single = normals(KEY, jnp.int64(tick), 1, cols, jnp.float32)[0]
        double = normals(KEY, jnp.int64(tick), 1, cols, jnp.float64)[0]
        np.testing.assert_allclose(double, expected, rtol=1e-14, atol=1e-15)
        np.testing.assert_allclose(single, expected, rtol=2e-6, atol=2e-6)


def test_many_normals_in_float32_are_those_in_float64():
    single, double = (
        np.asarray(normals(KEY, 0, 64, 4096, t), float) for t in (jnp.float32, jnp.float64)
    )
    # near u = 1 a float32 radius has an absolute error of 2^-24 / radius
    np.testing.assert_allclose(single, double, rtol=1e-5, atol=1e-4)
    assert np.abs(single - double).mean() < 2e-7


def test_extreme_words_stay_finite():
    ends = jnp.array([0, 1, 2**30, 2**31 - 1, 2**31, 2**32 - 1], jnp.uint32)
    radius, angle = (w.ravel() for w in jnp.meshgrid(ends, ends))
    for low in (None, (radius, angle)):
        dtype = jnp.dtype(jnp.float32 if low is None else jnp.float64)
        lo, hi = random._box_muller((radius, angle), low, dtype)
        assert np.isfinite(lo).all()
        assert np.isfinite(hi).all()
        largest = np.sqrt(64 * np.log(2)) if low is None else np.sqrt(130 * np.log(2))
        np.testing.assert_allclose(np.hypot(lo, hi).max(), largest, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_normal_law(dtype):
    z = np.asarray(normals(jax.random.key(1), 0, 1000, 2001, dtype), float)
    assert z.shape == (1000, 2001)
    # standard errors of the means of z^p: sqrt((E z^2p - (E z^p)^2) / n)
    for power, mean, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        score = ((z**power).mean() - mean) / np.sqrt(variance / z.size)
        assert abs(score) < 4, (power, score)
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3
    # the tails, each side by itself: counts beyond 3 and 4 against their binomial errors
    for side in (1, -1):
        for level in (3.0, 4.0):
            expected = z.size * stats.norm.sf(level)
            assert abs((side * z > level).sum() - expected) < 4 * np.sqrt(expected)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_uniform_law(dtype):
    u = uniforms(jax.random.key(2), 0, 500, 2001, dtype)
    assert u.dtype == dtype
    u = np.asarray(u, float)
    assert u.min() > 0
    assert u.max() < 1
    assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-3
    cells = 2.0**23 if dtype == jnp.float32 else 2.0**52
    np.testing.assert_array_equal((u * cells) % 1, 0.5)
    assert np.unique(u).size > (0.9 if dtype == jnp.float32 else 0.9999) * u.size


def correlations(a, b):
    """Scores of the correlations of a, b and of their squares, standard normal if independent."""
    a, b = np.ravel(a).astype(float), np.ravel(b).astype(float)
    squares = np.mean((a * a - 1) * (b * b - 1)) / 2
    mixed = np.mean(a * (b * b - 1)) / np.sqrt(2)
    return np.abs(np.array([np.mean(a * b), squares, mixed])) * np.sqrt(a.size)


def test_independence_of_rows_columns_keys_and_streams():
    def z(key):
        return np.asarray(normals(key, 0, 400, 1000, jnp.float32))

    base = z(KEY)
    start, steps = (z(random.stream(KEY, which)) for which in (Stream.START, Stream.STEPS))
    pairs = {
        "next row": (base[:-1], base[1:]),
        "next column": (base[:, :-1], base[:, 1:]),
        "halves": (base[:, :500], base[:, 500:]),
        "reversed rows": (base[:200], base[:199:-1]),
        "keys": (base, z(jax.random.key(21))),
        "streams": (base, start),
        "two streams": (start, steps),
        "folded keys": (z(jax.random.fold_in(KEY, 7)), z(jax.random.fold_in(KEY, 8))),
        "stream against its tick": (base[1:2], steps[:1]),
    }
    for name, (a, b) in pairs.items():
        assert correlations(a, b).max() < 4, name


def test_sums_along_rows_and_columns_are_normal():
    z = np.asarray(normals(KEY, 0, 2000, 2000, jnp.float32), float)
    for axis in (0, 1):
        assert stats.kstest(z.sum(axis) / np.sqrt(2000), "norm").pvalue > 1e-3
        assert stats.kstest((z**2).sum(axis), stats.chi2(2000).cdf).pvalue > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "cols"), [(jnp.float32, 301), (jnp.float64, 13)])
def test_blocks_do_not_matter(dtype, cols):
    whole = np.asarray(normals(KEY, 7, 24, cols, dtype))
    for size in (1, 8):
        parts = [normals(KEY, jnp.int32(7 + r), size, cols, dtype) for r in range(0, 24, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    looped = jax.lax.map(lambda r: random.normals(KEY, 7 + 4 * r, 4, cols, dtype), jnp.arange(6))
    np.testing.assert_array_equal(looped.reshape(24, cols), whole)


@pytest.mark.parametrize("draw", [random.normals, random.uniforms])
def test_vmap_over_keys_and_ticks_changes_nothing(draw):
    single = jax.jit(lambda key, tick: draw(key, tick, 3, 37))
    keys = jax.vmap(lambda i: jax.random.fold_in(KEY, i))(jnp.arange(5))
    ticks = jnp.array([0, 1, 10, 2**31 - 4, 3], jnp.int32)
    batch = jax.jit(jax.vmap(single))(keys, ticks)
    for i in range(5):
        np.testing.assert_array_equal(batch[i], single(keys[i], ticks[i]))


def test_normals_are_the_parts_of_the_pairs():
    whole = normals(KEY, 4, 6, 9, jnp.float32)
    z = jax.jit(random.normal_pairs, static_argnums=(2, 3))(KEY, 4, 6, 5)
    assert z.shape == (6, 5)
    np.testing.assert_array_equal(jnp.concatenate([z.real, z.imag], 1)[:, :9], whole)


def test_ticks_of_64_bits():
    start = 2**32 - 2
    across = normals(KEY, jnp.int64(start), 4, 10, jnp.float32)
    for row in range(4):
        alone = normals(KEY, jnp.int64(start + row), 1, 10, jnp.float32)[0]
        np.testing.assert_array_equal(across[row], alone)
    assert not np.any(np.isin(across[2:], normals(KEY, 0, 2, 10, jnp.float32)))
    small = normals(KEY, jnp.int32(11), 2, 10, jnp.float32)
    np.testing.assert_array_equal(small, normals(KEY, jnp.int64(11), 2, 10, jnp.float32))


def test_python_ticks_of_64_bits_need_no_x64():
    with jax.enable_x64(False):
        narrow = np.asarray(jax.jit(lambda: random.normals(KEY, 2**40 + 1, 2, 10))())
    np.testing.assert_array_equal(narrow, normals(KEY, jnp.int64(2**40 + 1), 2, 10, jnp.float32))


def key_words(key):
    return np.asarray(jax.random.key_data(key)).tolist()


@pytest.mark.parametrize("tick", [0, 1, 2**31, 2**32 - 1, 2**32, 2**32 + 7, 2**33 + 7, 2**62 + 1])
def test_the_key_of_a_tick_has_all_its_bits(tick):
    high, low = (int(word) for word in (tick >> 32, tick % 2**32))
    expected = reference_threefry(np.asarray(jax.random.key_data(KEY)), (high, low))
    expected = [int(word) for word in expected]
    assert key_words(random.at(KEY, tick)) == expected
    assert key_words(jax.jit(random.at)(KEY, jnp.int64(tick))) == expected
    if tick < 2**32:
        assert key_words(jax.random.fold_in(KEY, tick)) == expected


def test_keys_of_many_ticks_and_of_ticks_of_32_bits():
    ticks = jnp.arange(6).reshape(2, 3) * 2**31
    keys = jax.jit(random.at)(KEY, ticks)
    assert keys.shape == (2, 3)
    for i, tick in enumerate(ticks.ravel()):
        assert key_words(keys.ravel()[i]) == key_words(random.at(KEY, int(tick)))
    assert key_words(jax.vmap(random.at, (None, 0))(KEY, ticks)) == key_words(keys)
    expected = key_words(random.at(KEY, 9)), key_words(random.at(KEY, 2**40))
    with jax.enable_x64(False):
        assert key_words(jax.jit(random.at)(KEY, jnp.int32(9))) == expected[0]
        assert key_words(random.at(KEY, 2**40)) == expected[1]
        assert key_words(random.stream(KEY, Stream.PROBES)) == key_words(random.at(KEY, 2**63))


def test_wrong_input_is_named(monkeypatch):
    # what a user sees, who does not run with checked annotations
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(TypeError, match="typed key"):
        random.normals(jnp.zeros(2, jnp.uint32), 0, 1, 1)
    with pytest.raises(TypeError, match="typed key"):
        random.stream(3, Stream.START)
    for function in (random.at, random.stream):
        with pytest.raises(TypeError, match=r"key: .*; allowed: a typed key"):
            function(jnp.zeros(2, jnp.uint32), Stream.START)
        with pytest.raises(ValueError, match=r"key: rbg of shape .*; allowed: .*threefry2x32"):
            function(jax.random.key(0, impl="rbg"), Stream.START)
        with pytest.raises(ValueError, match=r"key: threefry2x32 of shape \(2,\); allowed: one"):
            function(jax.random.split(KEY, 2), Stream.START)
    with pytest.raises(TypeError, match="tick: float64; allowed: an integer"):
        random.at(KEY, jnp.ones(()))
    with pytest.raises(ValueError, match=r"rbg.*threefry2x32"):
        random.normals(jax.random.key(0, impl="rbg"), 0, 1, 1)
    with pytest.raises(ValueError, match="shape"):
        random.normals(jax.random.split(KEY, 2), 0, 1, 1)
    with pytest.raises(TypeError, match=r"tick.*float"):
        random.normals(KEY, jnp.float32(1), 1, 1)
    with pytest.raises(ValueError, match=r"dtype.*bfloat16"):
        random.normals(KEY, 0, 1, 1, jnp.bfloat16)
