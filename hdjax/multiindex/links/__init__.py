"""Links of multi-index models: the function f* of r variables, by its Hermite tensors.

`link.py` has the class `Link` and makes links of coefficients and of functions; `closed_forms.py`
has the links whose Hermite coefficients are known.
"""

from hdjax.multiindex.links.closed_forms import (
    cosine,
    erf,
    exponential,
    hermite_polynomial,
    relu,
    sign,
    sine,
)
from hdjax.multiindex.links.link import (
    Link,
    from_coefficients,
    from_function,
    product,
    ridge,
    ridge_sum,
)

__all__ = [
    "Link",
    "cosine",
    "erf",
    "exponential",
    "from_coefficients",
    "from_function",
    "hermite_polynomial",
    "product",
    "relu",
    "ridge",
    "ridge_sum",
    "sign",
    "sine",
]
