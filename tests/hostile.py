"""Valid calls of every public constructor, and values by which hostile calls replace arguments."""

import inspect
import typing

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

import hdjax as hd
from hdjax import (
    curvature,
    gaussian,
    landscapes,
    multiindex,
    multipass,
    networks,
    schedules,
    spectra,
    streaming,
)
from hdjax.landscapes import algorithms, kernels, optimisers, rates
from hdjax.multiindex import averaging, descent, diagnostics, flows, generative, links, readouts
from hdjax.streaming import data, losses, mixtures, projections, resolvents, steady_states
from hdjax.streaming import optimisers as memories

KEY = jax.random.key(0)
GATES = np.eye(2)
RULE = gaussian.GaussHermite(points=8)
SPECTRUM = spectra.explicit([0.5, 2.0], [6, 4])
START = streaming.GaussianStart(overlap=0.2)
SYSTEM = streaming.OnePassSGD(
    losses.LeastSquares(), SPECTRUM, 0.5, START, streaming.GaussianStart()
)
SUMMARY = SYSTEM.start()
CLASSIFIER = mixtures.mixture_softmax(10, 2, snr=2.0, learning_rate=0.5)
CLASSES = CLASSIFIER.start()
KERNEL = kernels.SquaredExponential()
SPAN = landscapes.GradientSpan(KERNEL, algorithms.GradientDescent(0.5), 100)
LINK = links.from_coefficients({(1, 0): 0.8, (1, 1): 0.6})
HE2 = links.hermite_polynomial(2)
PROBLEM = multipass.Problem(np.arange(12.0).reshape(4, 3) / 12, np.ones(4))
MULTI = multipass.MultiPassSGD(PROBLEM, 0.1)
MODES = multipass.modes.svd_modes(PROBLEM)[0]
LAW = multipass.laws.MarchenkoPastur(0.5)
LABELLED = multipass.data.Labelled(np.ones((6, 4)), np.ones(6))
X, Y = jnp.ones((5, 2)), jnp.zeros(5, int)


def perceptron(key):
    return networks.MLP(2, [3], 2, key=key)


TRAINING = networks.Training(perceptron, networks.cross_entropy, X, Y, optax.sgd(0.1))
TIMES = [0.0, 0.5, 1.0]
MEANS = jnp.stack([jnp.ones(10), -jnp.ones(10)], axis=1) / 4


def scalar(x):
    return jnp.sum(x)


def single(x, teacher, component, noise, theta):
    return (x[0] - teacher[0]) ** 2


def doubled(x):
    return 2 * x


def weight(network):
    return network.weight


def first_weight(network):
    return network.layers[0].weight


def of_rows(first, second):
    return {"first": first, "second": second}


# Each call, with all arguments that it can take, except for those that exclude others.
CALLS = [
    # Shared by families.
    (
        hd.Integrator,
        {"solver": SYSTEM.integrator.solver, "rtol": 1e-6, "atol": 1e-8, "max_steps": 100},
    ),
    (hd.Integrator, {"steps": 8}),
    (gaussian.GaussHermite, {"points": 8}),
    (gaussian.QMC, {"log2_points": 4, "seed": 1, "replicates": 2}),
    (gaussian.Trapezoid, {"points": 9, "radius": 6.0}),
    (gaussian.default_rule, {"dim": 2}),
    (gaussian.expectation, {"fn": scalar, "dim": 2, "rule": RULE}),
    (gaussian.expectation_with_error, {"fn": scalar, "dim": 2, "rule": RULE}),
    (spectra.explicit, {"eigenvalues": [0.5, 2.0], "multiplicities": [6, 4], "normalise": True}),
    (spectra.from_covariance, {"covariance": np.eye(3), "normalise": True}),
    (spectra.identity, {"d": 10}),
    (spectra.power_law, {"d": 10, "exponent": 0.5, "normalise": True}),
    (spectra.powers, {"d": 10, "exponent": 0.5, "normalise": True}),
    (spectra.uniform, {"d": 10, "low": 0.5, "high": 2.0, "normalise": True}),
    (spectra.marchenko_pastur, {"d": 10, "ratio": 0.5, "points": 4, "normalise": True}),
    (spectra.reduced, {"spectrum": SPECTRUM, "tolerance": 1e-3, "most": 10}),
    (schedules.Constant, {"value": 0.5}),
    (schedules.Cosine, {"initial": 0.5, "horizon": 4.0, "final": 0.1}),
    (schedules.PowerDecay, {"initial": 0.5, "exponent": 0.5, "timescale": 2.0}),
    (schedules.PiecewiseConstant, {"boundaries": [1.0], "values": [0.5, 0.1]}),
    (schedules.Table, {"times": [0.0, 1.0], "values": [0.5, 0.1]}),
    (schedules.Warmup, {"schedule": schedules.Constant(0.5), "duration": 1.0}),
    (schedules.Joined, {"first": 0.5, "at": 1.0, "then": schedules.Constant(0.1)}),
    (schedules.FunctionOfTime, {"fn": jnp.exp}),
    (schedules.FunctionOfStep, {"fn": jnp.exp, "dimension": 10.0}),
    (schedules.from_optax, {"schedule": jnp.exp, "dimension": 10.0}),
    (hd.paths.hitting_time, {"statistic": "risk", "level": 0.5}),
    (hd.paths.value_at, {"statistic": "risk", "t": 0.5}),
    (hd.paths.plateau, {"statistic": "risk", "low": 0.1, "high": 0.5}),
    (hd.paths.first_bad_time, {"statistic": "risk"}),
    # One-pass SGD.
    (
        streaming.OnePassSGD,
        {
            "loss": losses.LeastSquares(),
            "spectrum": SPECTRUM,
            "learning_rate": schedules.Constant(0.5),
            "start": START,
            "target": streaming.GaussianStart(),
            "mixture": streaming.Mixture([1.0]),
            "ridge": 0.1,
            "batch_size": 2,
            "theta": jnp.ones(2),
            "optimiser": memories.SGD(),
            "integrator": hd.Integrator(),
        },
    ),
    (
        streaming.OnePassSGD,
        {
            "loss": single,
            "spectrum": SPECTRUM,
            "learning_rate": 0.5,
            "start": np.ones((10, 1)),
            "target": np.ones((10, 1)),
        },
    ),
    (
        streaming.Mixture,
        {"probabilities": [0.5, 0.5], "means": MEANS, "eigenvalues": [[1.0, 2.0], [0.5, 1.0]]},
    ),
    (streaming.GaussianStart, {"scale": 1.0, "overlap": 0.2, "columns": 2}),
    (streaming.GramStart, {"blocks": np.eye(2)[None], "students": 1, "memories": 0}),
    (streaming.Direct, {"dtype": "float32", "block": 4, "data": None}),
    (streaming.Direct, {"data": data.Rademacher()}),
    (streaming.GramSampler, {"dtype": "float32"}),
    (streaming.Homogenised, {"dt": 0.01}),
    (streaming.CorrectedDiffusion, {"dt": 0.01}),
    (losses.AbsoluteError, {"sigma": [0.1, 0.2], "probabilities": [0.5, 0.5]}),
    (
        losses.Committee,
        {
            "activation": jnp.tanh,
            "teacher_weights": [1.0, 2.0],
            "weights": [1.0, 1.0],
            "sigma": 0.1,
            "smooth": True,
            "rule": RULE,
        },
    ),
    (losses.ComponentLogistic, {"labels": [1.0, 0.0]}),
    (losses.DiscreteNoise, {"values": [0.0, 1.0], "probabilities": [0.5, 0.5]}),
    (losses.ErfCommittee, {"teacher_weights": [1.0], "weights": [1.0], "sigma": 0.1}),
    (
        losses.FunctionLoss,
        {"function": single, "noise": losses.NoNoise(), "smooth": True, "rule": RULE},
    ),
    (losses.GaussianMixtureNoise, {"sigma": [0.1, 0.2], "probabilities": [0.5, 0.5]}),
    (losses.GaussianNoise, {"sigma": 0.1, "entries": 1}),
    (losses.Hinge, {"flip": 0.1}),
    (losses.Huber, {"delta": 1.0, "sigma": [0.1], "probabilities": [1.0]}),
    (
        losses.LeastSquares,
        {"sigma": [0.1, 1.0], "scale": 1.0, "columns": 1, "probabilities": [0.5, 0.5]},
    ),
    (losses.LipschitzPhaseRetrieval, {"scale": 1.0}),
    (losses.LogCosh, {"convexity": 0.1, "smoothness": 1.0}),
    (losses.Logistic, {"labels": "sampled", "rule": RULE}),
    (losses.Logistic, {"labels": "hard", "flip": 0.1}),
    (
        losses.MixtureLogistic,
        {"labels": [1.0, 0.0], "head": losses.Perceptron(), "smooth": True, "rule": RULE},
    ),
    (losses.MixtureSoftmax, {"classes": 2, "labels": [0, 1], "rule": RULE}),
    (losses.Perceptron, {"activation": "relu"}),
    (losses.PhaseRetrieval, {"scale": 1.0}),
    (losses.ReLUUnit, {"sigma": 0.1}),
    (losses.Softmax, {"classes": 3, "labels": "soft", "rule": RULE}),
    (memories.Averaging, {"rate": 0.5}),
    (memories.Dana, {"damping": 0.5, "momentum_rate": 0.5}),
    (memories.HeavyBall, {"damping": 0.5}),
    (memories.Momentum, {"beta": 0.9}),
    (memories.AdaGradNorm, {"scale": 1.0, "offset": 1.0}),
    (memories.Greedy, {"largest": 10.0}),
    (memories.Polyak, {"factor": 1.0}),
    (memories.Adam, {"forgetting": 1.0, "initial": 1.0, "beta1": 0.9}),
    (memories.Clipped, {"level": 1.0}),
    (memories.RMSProp, {"beta2": 0.9, "beta1": 0.1, "draws": 16}),
    (memories.Optax, {"chain": optax.sgd(0.1)}),
    (data.Rows, {"rows": np.ones((4, 3)), "shuffled": True}),
    (data.Sampler, {"function": of_rows}),
    (data.StudentT, {"dof": 5.0}),
    (mixtures.columns_with_gram, {"d": 10, "gram": np.eye(2)}),
    (
        mixtures.mixture_softmax,
        {"d": 10, "classes": 2, "snr": 2.0, "learning_rate": 0.5, "ridge": 0.1},
    ),
    (mixtures.noise_spectrum, {"d": 10, "snr": 2.0}),
    (mixtures.orthonormal_means, {"d": 10, "classes": 2}),
    (mixtures.simplex_means, {"d": 10, "classes": 2}),
    (mixtures.xor_means, {"d": 10}),
    (
        mixtures.gradient_flow,
        {"system": SYSTEM, "ts": TIMES, "start": SUMMARY, "save": jax.tree.leaves},
    ),
    (
        mixtures.xor_start,
        {"key": KEY, "means": mixtures.xor_means(10), "targets": [0, 1], "overlap": 0.5},
    ),
    (projections.Layout, {"students": 1, "teachers": 1, "means": 0}),
    (resolvents.contour, {"low": 0.5, "high": 1.0, "nodes": 8}),
    (resolvents.contour_weights, {"low": 0.5, "high": 1.0, "nodes": 8}),
    (steady_states.AtSteadyState, {"name": "risk"}),
    (steady_states.steady_state, {"system": SYSTEM, "start": SUMMARY, "horizon": 10.0}),
    (steady_states.stability, {"system": SYSTEM, "summary": SUMMARY}),
    (streaming.learning_rates.critical_learning_rate, {"system": SYSTEM, "summary": SUMMARY}),
    (
        streaming.learning_rates.optimal_schedule,
        {"system": SYSTEM, "horizon": 1.0, "statistic": "risk", "pieces": 2, "iterations": 2},
    ),
    (
        streaming.learning_rates.stability_threshold,
        {"spectrum": SPECTRUM, "batch_size": 2, "exact": True},
    ),
    (
        streaming.learning_rates.strongly_convex_rate,
        {"spectrum": SPECTRUM, "convexity": 0.1, "smoothness": 1.0, "share": 0.5},
    ),
    (
        streaming.features.power_law_features,
        {"key": KEY, "features": 4, "inputs": 8, "alpha": 1.0, "beta": 1.0, "step": 0.1},
    ),
    (
        streaming.samples.draw_samples,
        {"system": SYSTEM, "key": KEY, "first": 0, "count": 4},
    ),
    # Multi-pass SGD.
    (
        multipass.Problem,
        {
            "matrix": np.eye(3),
            "labels": np.ones(3),
            "start": np.ones(3),
            "quadratics": {"q": multipass.Quadratic(np.eye(3))},
        },
    ),
    (multipass.Quadratic, {"matrix": np.eye(2), "vector": np.ones(2), "constant": 0.5}),
    (multipass.SampleRisk, {"rows": np.eye(2), "labels": np.ones(2)}),
    (
        multipass.MultiPassSGD,
        {
            "problem": PROBLEM,
            "learning_rate": 0.1,
            "ridge": 0.1,
            "sampling": "replacement",
            "solver": multipass.BlockODE(),
        },
    ),
    (
        multipass.MomentumSGD,
        {
            "problem": PROBLEM,
            "learning_rate": 0.1,
            "batch_fraction": 0.5,
            "momentum": 0.1,
            "ridge": 0.1,
            "solver": multipass.Recursion(),
        },
    ),
    (multipass.BlockODE, {"integrator": hd.Integrator()}),
    (multipass.Direct, {"dtype": "float32"}),
    (multipass.Homogenised, {"dt": 0.01}),
    (
        multipass.gaussian_problem,
        {
            "samples": 4,
            "dimension": 3,
            "key": KEY,
            "signal": 1.0,
            "noise": 0.1,
            "eigenvalues": [1.0, 2.0, 3.0],
            "normalise_rows": True,
        },
    ),
    (
        multipass.random_features_problem,
        {
            "data": multipass.data.Split(LABELLED, LABELLED),
            "features": 5,
            "key": KEY,
            "activation": "relu",
        },
    ),
    (multipass.volterra, {"system": MULTI, "horizon": 1.0, "steps": 4}),
    (multipass.laws.MarchenkoPastur, {"ratio": 0.5, "variance": 1.0}),
    (
        multipass.laws.SampleCovariance,
        {"ratio": 0.5, "eigenvalues": [1.0, 2.0], "weights": [0.5, 0.5]},
    ),
    (
        multipass.modes.law_modes,
        {"law": LAW, "samples": 10, "signal": 1.0, "noise": 0.1, "points": 8, "risk": True},
    ),
    (multipass.modes.lanczos_modes, {"problem": PROBLEM, "points": 2, "key": KEY, "probes": 2}),
    (multipass.modes.svd_modes, {"problem": PROBLEM}),
    (multipass.analysis.limit_loss, {"modes": MODES, "learning_rate": 0.1}),
    (multipass.analysis.malthusian_exponent, {"spectrum": MODES, "learning_rate": 0.1}),
    (multipass.analysis.max_learning_rate, {"spectrum": MODES}),
    (multipass.analysis.power_exponent, {"law": LAW, "learning_rate": 0.1}),
    (multipass.analysis.transition_learning_rate, {"law": LAW}),
    (multipass.rates.best_momentum, {"spectrum": MODES, "batch_fraction": 0.5}),
    (multipass.rates.best_plain, {"spectrum": MODES, "batch_fraction": 0.5}),
    (multipass.rates.near_optimal, {"spectrum": MODES, "batch_fraction": 0.5}),
    (multipass.rates.condition_number, {"spectrum": MODES}),
    (
        multipass.rates.is_stable,
        {"modes": MODES, "learning_rate": 0.1, "batch_fraction": 0.5, "momentum": 0.1},
    ),
    (
        multipass.rates.kernel_norm,
        {"spectrum": MODES, "learning_rate": 0.1, "batch_fraction": 0.5, "momentum": 0.1},
    ),
    (
        multipass.rates.limit_rate,
        {"spectrum": MODES, "learning_rate": 0.1, "batch_fraction": 0.5, "momentum": 0.1},
    ),
    (
        multipass.rates.limit_loss_with_batches,
        {"modes": MODES, "learning_rate": 0.1, "batch_fraction": 0.5, "momentum": 0.1},
    ),
    (multipass.diagnostics.row_norms, {"problem": PROBLEM}),
    (multipass.data.split, {"data": LABELLED, "samples": 3, "test": 2, "seed": 0}),
    # Landscapes.
    (
        landscapes.GradientSpan,
        {
            "kernel": KERNEL,
            "algorithm": algorithms.GradientDescent(0.5),
            "dimension": 100,
            "mean": 0.5,
            "radius": 1.0,
            "noise": KERNEL,
        },
    ),
    (
        landscapes.GradientSpan,
        {
            "kernel": KERNEL,
            "algorithm": algorithms.GradientDescent(0.5),
            "dimension": 10,
            "spectrum": SPECTRUM,
            "shares": [0.5, 0.5],
        },
    ),
    (
        landscapes.ComponentWise,
        {
            "kernel": KERNEL,
            "optimiser": optimisers.SignDescent(0.1),
            "dimension": 100,
            "mean": 0.5,
            "radius": 1.0,
            "noise": KERNEL,
            "sites": 100,
        },
    ),
    (landscapes.Ambient, {"dtype": "float64"}),
    (
        landscapes.Explicit,
        {"features": 4, "couplings": "gaussian", "variances": [1.0], "dtype": "float32"},
    ),
    (landscapes.Function, {"fn": scalar, "dtype": "float32"}),
    (landscapes.Previsible, {"nugget": 1e-10}),
    (landscapes.NextObservation, {"system": SPAN}),
    (landscapes.OverlapWithStep, {"step": 1, "of": "points"}),
    (algorithms.BarzilaiBorwein, {"initial": 0.5, "variant": 1, "low": 0.1, "high": 2.0}),
    (algorithms.ConjugateGradient, {"rate": 0.5, "formula": "FR"}),
    (algorithms.GradientDescent, {"rate": rates.Normalised(0.5)}),
    (algorithms.HeavyBall, {"rate": 0.5, "momentum": schedules.Constant(0.5)}),
    (algorithms.LowerTriangular, {"matrix": np.tri(3)}),
    (algorithms.Nesterov, {"rate": 0.5, "momentum": 0.5}),
    (algorithms.SphereDescent, {"rate": 0.5}),
    (kernels.Amplitude, {"s": [1.0, 0.3]}),
    (kernels.FunctionKernel, {"kappa": of_rows}),
    (kernels.Matern32, {"var": 1.0, "scale": 1.0}),
    (kernels.Matern52, {"var": 1.0, "scale": 1.0}),
    (kernels.Polynomial, {"coefficients": [1.0, 0.3]}),
    (kernels.Product, {"left": KERNEL, "right": KERNEL}),
    (kernels.RationalQuadratic, {"var": 1.0, "scale": 1.0, "beta": 2.0}),
    (kernels.SpinGlass, {"coefficients": [0.1, 0.5]}),
    (kernels.SquaredExponential, {"var": 1.0, "scale": 1.0}),
    (kernels.Sum, {"left": KERNEL, "right": KERNEL}),
    (optimisers.Adam, {"rate": 0.1, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8}),
    (optimisers.RMSProp, {"rate": 0.1, "decay": 0.9, "epsilon": 1e-8}),
    (optimisers.SignDescent, {"rate": 0.1}),
    (rates.Clipped, {"rate": 0.5, "threshold": 1.0}),
    (rates.Normalised, {"length": 0.5}),
    (rates.Polyak, {"lowest": 0.0, "factor": 1.0}),
    (rates.RandomFunctionDescent, {"kernel": KERNEL, "mean": 0.0}),
    (rates.Scheduled, {"schedule": schedules.Constant(0.5)}),
    (rates.Steps, {"values": [0.5, 0.1]}),
    (landscapes.meta.algorithm_family, {"name": "heavy_ball", "steps": 3}),
    (
        landscapes.fluctuations.halting_law,
        {"system": SPAN, "threshold": 0.1, "steps": 3, "key": KEY, "draws": 10},
    ),
    (
        landscapes.fluctuations.critical_dimension,
        {
            "system": SPAN,
            "ts": [0, 1],
            "tolerance": 0.1,
            "confidence": 0.9,
            "statistics": ["value"],
        },
    ),
    (landscapes.fluctuations.expansion, {"system": SPAN, "ts": [0, 1], "statistics": ["value"]}),
    (landscapes.frame.previsible_frame, {"start": jnp.ones(3), "gradients": jnp.ones((2, 3))}),
    # Multi-index models.
    (
        multiindex.GradientFlow,
        {
            "link": LINK,
            "dimension": 100,
            "student": flows.Planted(),
            "directions": 2,
            "metric": "embedded",
            "integrator": hd.Integrator(),
            "form": "overlap",
        },
    ),
    (multiindex.GradientFlow, {"link": LINK, "dimension": 100, "start": [[0.2, 0.1], [0.0, 0.1]]}),
    (
        multiindex.FiniteSamples,
        {
            "link": LINK,
            "dimension": 10,
            "samples": 20,
            "readout": readouts.HermiteRidge(),
            "step": descent.Constant(0.1),
            "fresh": True,
            "noise": 0.1,
            "inputs": "gaussian",
            "target": "spread",
            "directions": 2,
        },
    ),
    (
        multiindex.Anisotropic,
        {"eigenvalues": np.ones(10), "preconditioned": True, "integrator": hd.Integrator()},
    ),
    (multiindex.FullFlow, {"integrator": hd.Integrator(), "dtype": "float32"}),
    (multiindex.Reduced, {"integrator": hd.Integrator(), "dtype": "float32"}),
    (
        multiindex.SaddleToSaddle,
        {"link": LINK, "dimension": 1e6, "directions": 2, "level": 0.5, "step": 0.02},
    ),
    (
        multiindex.StiefelDescent,
        {
            "link": LINK,
            "dimension": 100,
            "step": 0.1,
            "student": flows.Planted(),
            "directions": 2,
            "retraction": "polar",
        },
    ),
    (
        multiindex.StiefelSGD,
        {
            "link": HE2,
            "dimension": 100,
            "learning_rate": 0.1,
            "student": flows.Planted(),
            "noise": 0.1,
            "projection": "horizontal",
            "reuse": 0.1,
            "directions": 1,
            "rule": RULE,
            "integrator": hd.Integrator(),
        },
    ),
    (descent.Adaptive, {"factor": 0.5}),
    (descent.Constant, {"value": 0.1}),
    (diagnostics.oscillation, {"statistic": "cosines"}),
    (diagnostics.slow_growth, {"statistic": "loss", "tolerance": 0.02}),
    (diagnostics.trapped, {"level": 0.5, "statistic": "loss"}),
    (generative.generative, {"degree": 4}),
    (generative.generative_exponent, {"link": HE2, "degree": 2}),
    (generative.generative_spectrum, {"link": HE2, "degree": 2, "bins": 10, "nodes": 80}),
    (averaging.average, {"link": LINK, "matrix": [[0.1, 0.2], [0.0, 0.1]]}),
    (averaging.energy, {"link": LINK, "matrix": [[0.1, 0.2], [0.0, 0.1]]}),
    (flows.Joint, {"ratio": 0.5, "start": LINK}),
    (flows.Planted, {"link": LINK}),
    (flows.Profiled, {"ridge": 0.1}),
    (
        multiindex.freezing.escape_times,
        {"link": LINK, "start": [[0.2, 0.1], [0.0, 0.1]], "level": 0.5, "step": 0.02},
    ),
    (multiindex.leaps.exponents, {"link": LINK, "threshold": 1e-8}),
    (multiindex.leaps.leaps, {"link": LINK, "threshold": 1e-8}),
    (links.cosine, {"omega": 1.0, "degree": 4}),
    (links.erf, {"degree": 3}),
    (links.exponential, {"omega": 1.0, "degree": 4}),
    (links.from_coefficients, {"coefficients": {(1, 0): 0.8, (1, 1): 0.6}}),
    (
        links.from_function,
        {"function": scalar, "variables": 1, "degree": 2, "rule": RULE, "threshold": 1e-12},
    ),
    (links.hermite_polynomial, {"degree": 3}),
    (links.relu, {"degree": 4}),
    (links.ridge, {"link": HE2, "direction": [0.6, 0.8]}),
    (links.ridge_sum, {"link": HE2, "directions": np.eye(2), "weights": [1.0, 0.5]}),
    (links.sign, {"degree": 3}),
    (links.sine, {"omega": 1.0, "degree": 3}),
    (readouts.Fixed, {"link": LINK}),
    (readouts.HermiteRidge, {"degree": 3, "ridge": 0.01}),
    (readouts.KernelRidge, {"rho": 0.5, "ridge": 0.01}),
    (readouts.Network, {"width": 4, "depth": 1, "updates": 2, "learning_rate": 0.1}),
    (readouts.RandomFeatures, {"count": 4, "degree": 2, "ridge": 0.01}),
    (
        multiindex.starts.haar_overlap,
        {"key": KEY, "dimension": 100, "directions": 2, "variables": 2},
    ),
    (multiindex.starts.haar_odds, {"key": KEY, "dimension": 100, "directions": 2, "variables": 2}),
    (multiindex.starts.overlap, {"student": np.eye(5)[:, :2], "target": np.eye(5)[:, 1:3]}),
    (multiindex.traps.basin_probability, {"weights": {3: 0.5, 4: 0.5}}),
    (multiindex.traps.radial_harmonics, {"weights": {3: 0.5, 4: 0.5}}),
    (multiindex.traps.single_probability, {"link": HE2, "threshold": 1e-8}),
    # Curvature.
    (
        curvature.Alignment,
        {
            "training": CLASSIFIER,
            "blocks": [curvature.Block(0, "hessian", 1)],
            "alpha": 4.0,
            "train": True,
            "theta_scale": 0.0,
            "threshold": 0.1,
            "rule": RULE,
        },
    ),
    (curvature.Block, {"index": 0, "kind": "hessian", "rank": 2}),
    (curvature.OutlierCount, {"name": "outliers", "index": 0, "matrix": "hessian"}),
    (
        curvature.NetworkMatrix,
        {
            "loss": of_rows,
            "network": eqx.nn.Linear(2, 2, key=KEY),
            "inputs": X,
            "targets": Y,
            "kind": "hessian",
            "where": weight,
            "chunk": 5,
        },
    ),
    (
        curvature.ProjectedSGD,
        {"space": "top", "rank": 3, "kind": "hessian", "refresh": 50, "samples": 10},
    ),
    (
        curvature.block_theory,
        {
            "system": CLASSIFIER,
            "summary": CLASSES,
            "index": 0,
            "kind": "hessian",
            "alpha": 4.0,
            "rule": RULE,
        },
    ),
    (
        curvature.full_theory,
        {"system": CLASSIFIER, "summary": CLASSES, "kind": "hessian", "alpha": 4.0, "rule": RULE},
    ),
    (
        curvature.commuting_theory,
        {
            "system": CLASSIFIER,
            "summary": CLASSES,
            "index": 0,
            "kind": "hessian",
            "alpha": 4.0,
            "rule": RULE,
        },
    ),
    (curvature.quadrature, {"system": CLASSIFIER, "gram": np.eye(4), "rule": RULE}),
    (
        curvature.spectral_measure,
        {"product": doubled, "size": 4, "key": KEY, "probes": 2, "steps": 2},
    ),
    (
        curvature.top_space,
        {
            "product": doubled,
            "start": jnp.ones((4, 2)),
            "rank": 2,
            "key": KEY,
            "steps": 2,
            "tolerance": 1e-3,
            "cycles": 2,
        },
    ),
    (
        curvature.training_samples,
        {"system": CLASSIFIER, "horizon": jnp.array(1.0), "grid": 3, "rule": RULE},
    ),
    (
        curvature.emergence_map,
        {
            "system": CLASSIFIER,
            "index": 0,
            "kind": "hessian",
            "alphas": [1.0],
            "snrs": [1.0],
            "ts": [0.0, 1.0],
            "rule": RULE,
        },
    ),
    (curvature.alignment.overlap, {"first": jnp.eye(3), "second": jnp.eye(3)}),
    (curvature.alignment.orthonormal, {"columns": jnp.eye(3), "cut": 1e-6}),
    (curvature.classifiers.success_probability, {"width": 4, "means": 4}),
    (curvature.classifiers.softmax_fixed_point, {"classes": 3, "ridge": 0.1}),
    (curvature.classifiers.fixed_point_output, {"ridge": 0.1}),
    # Networks.
    (networks.MLP, {"inputs": 2, "hidden": [3], "outputs": 2, "activation": jnp.tanh, "key": KEY}),
    (networks.CNN, {"shape": [8, 8, 1], "classes": 2, "width": 0.5, "key": KEY}),
    (networks.Dense, {"inputs": 2, "outputs": 3, "copies": 1, "key": KEY}),
    (networks.Direct, {"dtype": "float32"}),
    (
        networks.Training,
        {
            "network": perceptron,
            "loss": networks.cross_entropy,
            "inputs": X,
            "targets": Y,
            "optimiser": optax.sgd(0.1),
            "batch": 2,
        },
    ),
    (
        networks.LayerAlignment,
        {"training": TRAINING, "layers": {"all": first_weight}, "rank": 2, "samples": 3},
    ),
    (
        networks.fit_kernel,
        {
            "kernel": KERNEL,
            "algorithm": algorithms.GradientDescent(0.5),
            "cost": [1.0, 0.9, 0.8],
            "gradient_norm": [1.0, 0.9, 0.8],
            "max_steps": 2,
        },
    ),
    (
        networks.Fitted,
        {
            "kernel": KERNEL,
            "training": TRAINING,
            "made_by": algorithms.GradientDescent(0.5),
            "algorithm": algorithms.GradientDescent(0.5),
            "steps": 2,
            "runs": 2,
            "key": KEY,
        },
    ),
]


# Parameters that take any text.
FREE = {"statistic", "name"}


def mutations(call, name, value):
    """Labels and values that no argument `name` of a call takes, where it takes `value`."""
    parameter = inspect.signature(call).parameters[name]
    optional = parameter.default is None or type(None) in typing.get_args(parameter.annotation)
    found = [] if optional else [("None", None)]
    if isinstance(value, bool):
        return [*found, ("text", "yes"), ("number", 2), ("fraction", 0.5)]
    if isinstance(value, int):
        found += [("fraction", 1.5), ("boolean", True), ("NaN", np.nan), ("negative", -1)]
        return [*found, ("text", "x"), ("complex", 1 + 1j), ("object", object())]
    if isinstance(value, float) or is_scalar(value):
        found += [("boolean", True), ("text", "x"), ("complex", 0.5 + 1j), ("object", object())]
        return found if is_scalar(value) else [*found, ("NaN", np.nan)]
    if isinstance(value, str):
        found += [("number", 3), ("list", ["x"])]
        return found if name in FREE else [*found, ("misspelt", "misspelt")]
    if is_key(value):
        return [*found, ("seed", 0), ("old key", jax.random.key_data(value)), ("text", "x")]
    if isinstance(value, eqx.Module):
        found += [("class", type(value))]
    if isinstance(value, dict):
        return [*found, ("number", 3), ("text", "x"), ("values", dict.fromkeys(value, "x"))]
    if is_numbers(value):
        array = np.asarray(value)
        found += [("complex", array * (1 + 1j)), ("texts", np.full(array.shape, "x").tolist())]
        return [*found, ("text", "x"), ("object", object())]
    return [*found, ("text", "misspelt"), ("complex", 1j), ("object", object())]


def is_key(value):
    return isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def is_scalar(value):
    return isinstance(value, jax.Array) and value.ndim == 0 and not is_key(value)


def is_numbers(value):
    """Whether a value is a list or an array of numbers."""
    entries = value if isinstance(value, list) else []
    objects = any(isinstance(entry, str | eqx.Module) for entry in entries)
    return isinstance(value, list | np.ndarray | jax.Array) and not objects
