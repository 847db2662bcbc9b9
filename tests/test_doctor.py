import jax
import numpy as np
import pytest

from hdjax import doctor

pytestmark = pytest.mark.optimised


def test_a_sound_installation_passes(capsys):
    assert doctor.main() == 0
    page = capsys.readouterr().out
    assert f"jax       {jax.__version__}" in page
    assert "x64       on" in page
    assert "FAIL" not in page


def test_checks_do_not_need_64_bits_to_be_on():
    with jax.enable_x64(False):
        assert all(check.ok for check in doctor.checks())
        assert jax.numpy.ones(1, float).dtype == np.float32


@pytest.mark.parametrize("package", ["jax", "jaxlib"])
def test_a_bad_version_is_named(monkeypatch, package, capsys):
    real = doctor.versions()
    monkeypatch.setattr(doctor, "versions", lambda: {**real, package: "0.10.2"})
    assert doctor.main() == 1
    assert f"FAIL  versions: {package} 0.10.2: wrong numbers on CPU" in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [1.001, np.nan])
def test_a_wrong_number_is_counted(wrong):
    expected = np.arange(1.0, 5.0)
    found = expected.copy()
    found[2] *= wrong
    check = doctor._compare("kernel", lambda: (found, expected), 1e-5)
    assert not check.ok
    assert check.detail.startswith("1 of 4 numbers")


def test_a_kernel_that_jax_gets_wrong_fails_the_doctor(monkeypatch, capsys):
    # Leave the batch's last rows out, as jax 0.10.2 did.
    vmap = jax.vmap
    monkeypatch.setattr(jax, "vmap", lambda f: lambda rows: vmap(f)(rows).at[16384:].set(0.0))
    assert doctor.main() == 1
    page = capsys.readouterr().out
    assert "FAIL  vmapped matrix-vector product, float64: 24576 of 40960" in page
    assert page.count("FAIL") == 2
