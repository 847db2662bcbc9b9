"""Points and runs on a mesh of devices, which is imitated in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, Mesh
from jax.sharding import PartitionSpec as P

import hdjax as hd
from hdjax.engine import devices
from hdjax.engine.runs import shapes
from tests.engine.relaxing import relaxation

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = {"key": jax.random.key(5), "progress": False}
TS, GRID = [0.0, 0.5, 1.0], {"rate": [0.5, 1.0, 2.0]}


def test_points_and_runs_are_divided_by_the_axes_of_their_names():
    layout = devices.Layout(AbstractMesh((2, 4), ("points", "runs")), many=True)
    assert layout.shares == (2, 4)
    assert layout.spec(points=True, runs=True) == P("points", "runs")
    assert layout.spec(points=True) == P("points")
    runs = devices.Layout(AbstractMesh((4,), ("runs",)), many=True)
    assert (runs.shares, runs.spec(points=True, runs=True)) == ((1, 4), P(None, "runs"))


def test_the_runs_of_one_point_are_divided_by_all_axes():
    layout = devices.Layout(AbstractMesh((2, 4), ("points", "runs")), many=False)
    assert layout.shares == (1, 8)
    assert layout.spec(points=True, runs=True) == P(("points", "runs"))


@pytest.mark.parametrize(
    ("runs", "points", "shape"),
    [(64, 1, (1, 8)), (2, 5, (4, 2)), (4, 100, (2, 4)), (1, 3, (4, 2)), (3, 1, (1, 8))],
)
def test_the_default_mesh_leaves_the_fewest_runs_to_each_device(runs, points, shape):
    assert devices._default(list(range(8)), runs, points).devices.shape == shape


@pytest.mark.parametrize("text", ["", "runs", "runs=x", "runs=0", "runs=2", "d=1", "runs=1,runs=1"])
def test_texts_that_are_no_mesh_are_refused(text):
    with pytest.raises(ValueError, match=r"mesh: .*; allowed: runs=N, points=N or both"):
        devices.parse_mesh(text)


@pytest.mark.parametrize("names", ["d", "runs d"])
def test_other_axes_are_refused(names):
    names = tuple(names.split())
    mesh = Mesh(np.array(jax.devices()[:1]).reshape([1] * len(names)), names)
    with pytest.raises(ValueError, match=r"mesh: axes .*d; allowed: points, runs"):
        hd.simulate(relaxation(), TS, runs=2, mesh=mesh, **OPTIONS)


def test_another_object_is_no_mesh():
    with pytest.raises(TypeError, match=r"mesh: 4; allowed: an instance of Mesh; or None"):
        hd.simulate(relaxation(), TS, runs=2, mesh=4, **OPTIONS)


def swept(start, mesh):
    return hd.sweep(relaxation, GRID, TS, runs=6, start=start, mesh=mesh, **OPTIONS)


def divided(method):
    """Two runs with mini-batches, an odd d and a spectrum, by a method that divides each."""
    law, loss = hd.streaming.GaussianStart(), hd.streaming.losses.LeastSquares(sigma=0.5)
    spectrum = hd.spectra.power_law(41, 0.3)
    system = hd.streaming.OnePassSGD(loss, spectrum, 0.5, law, law, batch_size=3)
    options = OPTIONS | {"statistics": ["risk", "overlaps"], "method": method}
    return hd.simulate(system, TS, runs=2, **options)


def layout_of_runs(work):
    one = shapes(relaxation(), hd.make_plan(relaxation(), TS), jax.random.key(0))
    return devices.layout_of(one, work=work, runs=8, points=1, mesh=None)


def on_eight(path):
    """What the test below compares with one device, as computed by eight."""
    assert jax.device_count() == 8
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)
    found, mesh = {}, Mesh(np.array(jax.devices()).reshape(4, 2), ("runs", "points"))
    for start in ("law", "realised"):
        result = swept(start, mesh)
        found |= {f"{start} runs": result.runs["mean"], f"{start} limit": result.limit["mean"]}
    result = divided(hd.streaming.Direct(dtype="float64", devices=8))
    sizes = [layout_of_runs(work).mesh.size for work in (1, 10**12)]
    np.savez(path, **found, sizes=sizes, risk=result.runs["risk"], overlaps=result.runs["overlaps"])


@pytest.mark.slow
def test_eight_devices_compute_what_one_computes(tmp_path):
    """Three points and six runs on a mesh of 2 x 4, and coordinates that 8 does not divide."""
    file = tmp_path / "found.npz"
    script = f"from tests.engine.test_devices import on_eight; on_eight({str(file)!r})"
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"}
    environment["PYTHONPATH"] = str(ROOT)
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
    found = np.load(file)
    # On a CPU little work stays on one device.
    np.testing.assert_array_equal(found["sizes"], [1, 8])
    for start in ("law", "realised"):
        result = swept(start, None)
        np.testing.assert_allclose(found[f"{start} runs"], result.runs["mean"], rtol=1e-12)
        np.testing.assert_allclose(found[f"{start} limit"], result.limit["mean"], rtol=1e-12)
    result = divided(hd.streaming.Direct(dtype="float64"))
    for name in ("risk", "overlaps"):
        np.testing.assert_allclose(found[name], result.runs[name], rtol=1e-12, atol=1e-14)
