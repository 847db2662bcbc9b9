"""The command `hdjax doctor`: versions, devices, and whether the numbers can be trusted.

A compiler may return wrong numbers without an error: version 0.10.2 of JAX does so on CPU, for a
vmapped product of a small matrix and a vector (https://github.com/jax-ml/jax/issues/39103).  The
command therefore compares a few jitted kernels, of the kinds that this package consists of, with
NumPy, SciPy and published values.
"""

import dataclasses
import importlib.metadata
import platform
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from hdjax import precise, random
from hdjax.engine.memory import device_memory

_PACKAGES = ("hdjax", "jax", "jaxlib", "equinox", "diffrax", "numpy", "scipy", "xarray", "h5netcdf")
_WRONG_ON_CPU = "wrong numbers on CPU, https://github.com/jax-ml/jax/issues/39103"
KNOWN_BAD = {("jax", "0.10.2"): _WRONG_ON_CPU, ("jaxlib", "0.10.2"): _WRONG_ON_CPU}

# Key, counter and output of threefry2x32 with 20 rounds, two words each.
_THREEFRY = (
    (0x00000000, 0x00000000, 0x00000000, 0x00000000, 0x6B200159, 0x99BA4EFE),
    (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0x1CB996FC, 0xBB002BE7),
    (0x13198A2E, 0x03707344, 0x243F6A88, 0x85A308D3, 0xC4923A9C, 0x483DF7A0),
)


@dataclasses.dataclass(frozen=True)
class Check:
    """The outcome of one check.

    Attributes:
        name: what was checked.
        ok: whether the check passed.
        detail: what was found, and the remedy if the check failed.
    """

    name: str
    ok: bool
    detail: str


def main() -> int:
    """Print the report, and return the exit code: 0 if every check passed, 1 otherwise."""
    done = checks()
    print(report(done))
    return 0 if all(check.ok for check in done) else 1


def checks() -> list[Check]:
    """Run all checks: one for versions that are known to be bad, and one for each kernel.

    Example:
        >>> all(check.ok for check in checks())
        True
    """
    kernels: Sequence[tuple[str, Callable[[], tuple[Any, Any]], float]] = (
        ("vmapped matrix-vector product, float64", lambda: _products(np.float64), 1e-10),
        ("vmapped matrix-vector product, float32", lambda: _products(np.float32), 1e-4),
        ("sum of 10^6 float32 numbers", _sum, 1e-5),
        ("float32 matrix product, highest precision", _matrix_product, 1e-5),
        ("normals by the inverse error function", _normals, 1e-5),
        ("threefry counter cipher", _cipher, 0.0),
    )
    return [_versions(), *(_compare(name, kernel, bound) for name, kernel, bound in kernels)]


def versions() -> dict[str, str]:
    """The versions of Python and of the packages on which the numbers depend."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def report(done: Sequence[Check]) -> str:
    """The text that the command prints: versions, devices, memory, precision, a line each check."""
    lines = [f"{name:<10}{version}" for name, version in versions().items()]
    for device in jax.local_devices():
        gib = device_memory(device) / 2**30
        lines.append(f"{'device':<10}{device.platform}: {device.device_kind}, {gib:.1f} GiB free")
    precision = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    precision = precision or "the device's own"
    lines.append(f"{'x64':<10}{'on' if jax.config.read('jax_enable_x64') else 'off'}")
    lines.append(f"{'matmul':<10}{precision} by default")
    lines += [f"{'pass' if check.ok else 'FAIL'}  {check.name}: {check.detail}" for check in done]
    return "\n".join(lines)


def _versions() -> Check:
    faults = [
        f"{package} {version}: {KNOWN_BAD[package, version]}"
        for package, version in versions().items()
        if (package, version) in KNOWN_BAD
    ]
    return Check("versions", not faults, "; ".join(faults) or "none of them is known to be bad")


def _compare(name: str, kernel: Callable[[], tuple[Any, Any]], bound: float) -> Check:
    """Run a kernel, which returns (found, expected), and compare its relative error with `bound`.

    64-bit numbers are switched on inside the kernel, whatever the setting of the process.
    """
    with jax.enable_x64(True):
        found, expected = (np.asarray(part) for part in kernel())
    # The comparison is such that NaN counts as wrong.
    size = np.abs(expected).max()
    bad = ~(np.abs(found.astype(np.float64) - expected) <= bound * size)
    if not bad.any():
        return Check(name, True, f"relative error at most {bound:g}")
    detail = f"{bad.sum()} of {bad.size} numbers are wrong: do not trust this JAX here"
    return Check(name, False, detail)


def _products(dtype: Any) -> tuple[Any, Any]:
    # The fault of jax 0.10.2 begins at 16385 rows in float64 and at 32769 in float32.
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((40960, 3)).astype(dtype)
    matrix = rng.standard_normal((3, 3)).astype(dtype)

    @jax.jit
    def kernel(matrix: Any, rows: Any) -> Any:
        def one(row: Any) -> Any:
            return jnp.sum(jnp.tanh(precise.dot(matrix, row)))

        return jax.vmap(one)(rows)

    exact = np.tanh(rows.astype(np.float64) @ matrix.T.astype(np.float64)).sum(axis=1)
    return kernel(matrix, rows), exact


def _sum() -> tuple[Any, Any]:
    numbers = np.random.default_rng(1).random(10**6, np.float32)
    return jax.jit(jnp.sum)(numbers), numbers.sum(dtype=np.float64)


def _matrix_product() -> tuple[Any, Any]:
    # Tensor cores round float32 factors to 11 bits unless they are told not to.
    a, b = np.random.default_rng(2).standard_normal((2, 256, 256)).astype(np.float32)
    found = jax.jit(lambda a, b: precise.dot(a, b))(a, b)
    return found, a.astype(np.float64) @ b.astype(np.float64)


def _normals() -> tuple[Any, Any]:
    uniforms = np.linspace(-1, 1, 100_001, dtype=np.float32)[1:-1]
    return jax.jit(jax.lax.erf_inv)(uniforms), scipy.special.erfinv(uniforms.astype(np.float64))


def _cipher() -> tuple[Any, Any]:
    # Known answers of the Random123 library, each repeated so often that the loop is vectorised.
    key, counter, answer = np.array(_THREEFRY, np.uint32).repeat(4096, axis=0).T.reshape(3, 2, -1)
    device = jax.tree.map(jnp.asarray, (tuple(key), tuple(counter)))
    return jnp.stack(jax.jit(random.threefry2x32)(*device)), answer
