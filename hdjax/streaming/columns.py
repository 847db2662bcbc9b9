"""The joint law of student, teacher and mean columns W = [X | X* | means] at t = 0.

Simulations draw their start from this law, and the limit starts at its mean.  The memories of an
optimiser follow from X (`OnePass.extended`), unless Gram blocks give them.  `starts.py` makes the
law of what users give.  Columns that are not prescribed by Gram blocks are linear in a few given
columns F (d, f) and in independent Gaussian columns Z with entries N(0, 1/d):

    W = F T_F + Z T_Z,   E[W^T P_i W] = T_F^T (F^T P_i F) T_F + w_i T_Z^T T_Z,

with P_i the eigenprojections of the covariance and w_i = d_i / d.  As d grows the Gram blocks
W^T P_i W converge to this mean.
"""

import abc
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from hdjax import gaussian, precise, random
from hdjax.spectra import Reduction, Spectrum, reduced
from hdjax.streaming.projections import Layout


class Columns(eqx.Module):
    """The joint law of the columns W = [X | X* | means] at the start."""

    layout: eqx.AbstractVar[Layout]

    @abc.abstractmethod
    def blocks(self, spectrum: Spectrum) -> Float[Array, "g q q"]:
        """The limit of the Gram blocks of W' (frame coordinates), one for each group."""

    @abc.abstractmethod
    def sample(self, key: Key[Array, ""], spectrum: Spectrum) -> Float[Array, "d q"]:
        """One draw of W = [X | X* | means] (natural columns) in the eigenbasis."""

    @abc.abstractmethod
    def sample_factor(self, key: Key[Array, ""], spectrum: Spectrum) -> Float[Array, "g q q"]:
        """One draw of factors R_i such that R_i^T R_i has the law of W^T P_i W, for any d.

        The rows of R_i belong to orthonormal directions of the eigenspace; rows beyond the
        dimension of the eigenspace are zero.
        """

    @property
    @abc.abstractmethod
    def follows_spectrum(self) -> bool:
        """Whether the blocks are known on any spectrum, as those of random columns are."""


class LinearColumns(Columns):
    """The law W = F T_F + Z T_Z of given columns F and independent Gaussian columns Z.

    Attributes:
        given: F (d, f), in the eigenbasis of K; None if there are no given columns.
        mix_given: T_F.
        mix_random: T_Z.
        layout: the kinds and numbers of columns of W.
    """

    given: Float[Array, "d f"] | None
    mix_given: Float[Array, "f q"]
    mix_random: Float[Array, "z q"]
    layout: Layout = eqx.field(static=True)

    def blocks(self, spectrum: Spectrum) -> Float[Array, "g q q"]:
        drawn = self.layout.to_frame(self.mix_random)
        blocks = spectrum.weights[:, None, None] * (drawn.T @ drawn)[None]
        if self.given is None:
            return blocks
        mix = self.layout.to_frame(self.mix_given)
        gram = group_gram(self.given, spectrum)
        return blocks + precise.einsum("fa,gfh,hb->gab", mix, gram, mix)

    def sample(self, key: Key[Array, ""], spectrum: Spectrum) -> Float[Array, "d q"]:
        d = coordinates(spectrum)
        dtype = self.mix_random.dtype
        shape = (d, self.mix_random.shape[0])
        z = jax.random.normal(key, shape, dtype) / jnp.sqrt(jnp.asarray(d, dtype))
        columns = precise.dot(z, self.mix_random)
        if self.given is None:
            return columns
        return columns + precise.dot(self.given, self.mix_given)

    def sample_factor(self, key: Key[Array, ""], spectrum: Spectrum) -> Float[Array, "g q q"]:
        """One draw of the factors; the first rows span the given columns.

        Outside these rows the Gram matrix of the random columns has a Wishart law, whose Bartlett
        factor is drawn.
        """
        q, f = self.layout.width, self.mix_given.shape[0]
        counts, dtype = spectrum.multiplicities, self.mix_random.dtype
        normal_key, chi_key = random.at(key, 0), random.at(key, 1)
        shape = (counts.shape[0], q, q - f)
        z = jax.random.normal(normal_key, shape, dtype)
        dof = counts[:, None] - f - jnp.arange(q - f, dtype=dtype)[None]
        squares = jax.random.chisquare(chi_key, jnp.maximum(dof, 1), dtype=dtype)
        rows, index = np.arange(q)[:, None], f + np.arange(q - f)
        z = (
            jnp.where((rows < index)[None], z, 0)
            .at[:, index, np.arange(q - f)]
            .set(jnp.sqrt(squares))
        )
        exists = jnp.arange(q, dtype=counts.dtype)[None] < jnp.round(counts)[:, None]
        z = jnp.where(exists[:, :, None], z, 0)
        factor = precise.einsum("gra,aq->grq", z, self.mix_random)
        factor = factor / jnp.sqrt(spectrum.dimension)
        if self.given is None:
            return factor
        given = _leading(group_gram(self.given, spectrum), counts)
        own = precise.einsum("gra,aq->grq", given, self.mix_given)
        return factor.at[:, :f].add(own)

    @property
    def follows_spectrum(self) -> bool:
        return self.given is None


class GramColumns(Columns):
    """The law of W with given Gram blocks: a random orthonormal frame times a factor in each."""

    gram: Float[Array, "g q q"]
    layout: Layout = eqx.field(static=True)

    def blocks(self, spectrum: Spectrum) -> Float[Array, "g q q"]:
        # The change of coordinates from W to W' acts on both sides of each block.
        once = self.layout.to_frame(self.gram).transpose(0, 2, 1)
        return self.layout.to_frame(once).transpose(0, 2, 1)

    def sample(self, key: Key[Array, ""], spectrum: Spectrum) -> Float[Array, "d q"]:
        groups, q = spectrum.groups, self.layout.width
        z = jax.random.normal(key, (coordinates(spectrum), q), self.gram.dtype)
        # The first min(q, d_i) columns are made orthonormal within group i.
        rank = jnp.round(spectrum.multiplicities).astype(jnp.int32)
        full = jnp.arange(q, dtype=jnp.int32)[None] < rank[:, None]
        keep = full[:, :, None] & full[:, None, :]
        eye = jnp.eye(q, dtype=z.dtype)
        lower = jnp.linalg.cholesky(jnp.where(keep, group_gram(z, spectrum), eye[None]))
        factor = self.sample_factor(key, spectrum)
        frame = jax.vmap(jax.scipy.linalg.solve_triangular)(lower.mT, factor)
        return precise.einsum("da,dab->db", z, frame[groups])

    def sample_factor(self, key: Key[Array, ""], spectrum: Spectrum) -> Float[Array, "g q q"]:
        return _leading(self.gram, spectrum.multiplicities)

    @property
    def follows_spectrum(self) -> bool:
        return False


def _leading(gram: Float[Array, "g k k"], counts: Float[Array, " g"]) -> Float[Array, "g k k"]:
    """The R with R^T R = gram, rows in decreasing order of norm; those beyond row d_i are zero."""
    values, vectors = jnp.linalg.eigh(gram)
    root = jnp.sqrt(jnp.maximum(values, 0))[:, ::-1]
    exists = jnp.arange(gram.shape[-1], dtype=counts.dtype)[None] < jnp.round(counts)[:, None]
    root = jnp.where(exists, root, 0)
    return root[:, :, None] * vectors[:, :, ::-1].transpose(0, 2, 1)


def group_gram(columns: Float[Array, "d q"], spectrum: Spectrum) -> Float[Array, "g q q"]:
    """The Gram blocks of `columns`: products of their entries, summed within each group.

    Products no larger than their rounding are zero (`gaussian.without_rounding`).
    """
    d, g = columns.shape[0], spectrum.eigenvalues.shape[-1]
    if g == d:
        return columns[:, :, None] * columns[:, None, :]
    # Sums have two levels of some d^1/2 terms: 10^7 float32 numbers that are added one after the
    # other lose 1 %.
    piece = math.isqrt(d)
    if g == 1:
        pieces = jnp.pad(columns, ((0, -d % piece), (0, 0))).reshape(-1, piece, columns.shape[1])
        gram = precise.einsum("nda,ndb->nab", pieces, pieces).sum(0)[None]
    else:
        outer = columns[:, :, None] * columns[:, None, :]
        # Groups lie side by side, so that this number increases with each new group or piece.
        groups = spectrum.groups
        part = groups + jnp.arange(d, dtype=groups.dtype) // piece
        count = g + d // piece + 1
        sums = jax.ops.segment_sum(outer, part, count, indices_are_sorted=True)
        owner = jnp.zeros(count, groups.dtype).at[part].set(groups)
        gram = jax.ops.segment_sum(sums, owner, g)
    norms = jnp.sqrt(jnp.diagonal(gram, axis1=1, axis2=2))
    return gaussian.without_rounding(gram, norms[:, :, None] * norms[:, None, :])


def as_given(columns: Float[Array, "d q"], spectrum: Spectrum) -> Float[Array, "d q"]:
    """Columns in the eigenbasis of K, rotated to the coordinates in which K is given."""
    if spectrum.basis is None:
        return columns
    return precise.dot(spectrum.basis.astype(columns.dtype), columns)


def reduction_of(columns: Columns, spectrum: Spectrum, tolerance: float) -> Reduction | None:
    """The reduction of a spectrum to few nodes, for the limit of `columns`.

    `tolerance` is the largest relative error of sums over the spectrum with two kinds of measures:
    the weights of the groups and, for given columns, their squared norms in each eigenspace.  The
    result is None if this takes too many nodes.
    """
    measures = None
    if not columns.follows_spectrum:
        measures = np.asarray(jnp.diagonal(columns.blocks(spectrum), axis1=1, axis2=2))
    return reduced(spectrum, tolerance, measures)


def coordinates(spectrum: Spectrum) -> int:
    """The number of coordinates d of a spectrum, as a Python integer for shapes.

    Raises:
        ValueError: the spectrum has no coordinates (a quadrature rule, or d given as an array).
    """
    if spectrum.size is None:
        raise ValueError(
            "spectrum: one with no coordinates (a quadrature rule, or d given as an array); "
            "allowed for direct simulation: a spectrum made with d as an int"
        )
    return spectrum.size
