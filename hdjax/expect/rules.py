"""The evaluation of rules on a result.

A rule is parsed by Python's `ast` and evaluated by a list of allowed operations; no code is run.
`check` evaluates rules on a result without numbers, to find their mistakes before the run.
"""

import ast
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from hdjax import reading
from hdjax.expect.functions import Call
from hdjax.registry import suggest

_ARITHMETIC: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_COMPARISONS: dict[type, Callable[..., Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
# The functions of NumPy return NaN outside of their domain, and a rule with NaN fails.
_MATHS: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "sqrt": np.sqrt,
    "log": np.log,
    "exp": np.exp,
    "min": lambda *values: np.min(values),
    "max": lambda *values: np.max(values),
}
_NAMES = ("runs", "dimension", "pi")


def check(rules: Sequence[str], empty: xr.DataTree) -> None:
    """Find the mistakes of rules before the run, by evaluating them on a result without numbers.

    Args:
        rules: the rules.
        empty: a result with the structure of the future one, from `hdjax.layout.empty`.

    Raises:
        ValueError: a rule has a mistake: wrong syntax, an unknown function, statistic, path or
            axis, or a time, point or entry that the result will not have.  The message has a line
            for each such rule.

    Example:
        >>> from hdjax import layout
        >>> empty = layout.empty("compare", {"risk": np.zeros(())}, [0.0, 1.0])
        >>> check(["sup_error(risk) < 0.1"], empty)
    """
    mistakes = []
    for rule in rules:
        try:
            _outcome(rule, empty)
        except ValueError as error:
            mistakes.append(str(error))
    if mistakes:
        raise ValueError("\n".join(mistakes))


def evaluate(rules: Sequence[str], result: xr.DataTree) -> list[dict[str, Any]]:
    """Evaluate rules on a result.

    Args:
        rules: the rules.
        result: the tree of a result.

    Returns:
        For each rule {"rule", "value", "passed"}; the value is that of the first operand that is
        not a constant, and None if it is not finite.

    Raises:
        ValueError: a rule has a mistake, as for `check`.

    Example:
        >>> evaluate(["sup_error(risk) < 0.1"], result.tree)  # doctest: +SKIP
        [{'rule': 'sup_error(risk) < 0.1', 'value': 0.03, 'passed': True}]
    """
    return [_outcome(rule, result) for rule in rules]


def _outcome(text: str, result: xr.DataTree) -> dict[str, Any]:
    """The outcome {"rule", "value", "passed"} of one rule."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if not isinstance(tree, ast.Compare):
            raise ValueError("it compares nothing; allowed: e.g. sup_error(risk) < 0.1")
        if any(type(op) not in _COMPARISONS for op in tree.ops):
            raise ValueError("its comparison is none of <, <=, >, >=, ==, !=; allowed: these")
        operands = [tree.left, *tree.comparators]
        with np.errstate(all="ignore"):
            values = [float(_value(operand, result)) for operand in operands]
    except SyntaxError as error:
        told = f"{error.msg} at character {error.offset}"
        raise ValueError(f"rule {text!r}: {told}; allowed: e.g. sup_error(risk) < 0.1") from None
    except (RecursionError, MemoryError):
        raise ValueError(f"rule {text[:60]!r}...: nested too deeply; allowed: less deep") from None
    except (ValueError, OverflowError) as error:
        raise ValueError(f"rule {text!r}: {error}") from None
    pairs = zip(tree.ops, values[:-1], values[1:], strict=True)
    passed = all(math.isfinite(v) for v in values) and all(
        _COMPARISONS[type(op)](a, b) for op, a, b in pairs
    )
    varying = (v for v, o in zip(values, operands, strict=True) if not _is_constant(o))
    value = next(varying, values[0])
    return {"rule": text, "value": value if math.isfinite(value) else None, "passed": passed}


def _value(node: ast.AST, result: xr.DataTree) -> Any:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return np.float64(number)
        case ast.BinOp() if type(node.op) in _ARITHMETIC:
            operate = _ARITHMETIC[type(node.op)]
            return operate(_value(node.left, result), _value(node.right, result))
        case ast.UnaryOp() if type(node.op) in _ARITHMETIC:
            return _ARITHMETIC[type(node.op)](_value(node.operand, result))
        case ast.Name(id=name):
            return np.float64(_number(name, result))
        case ast.Call(func=ast.Name(id=name)) if name in _MATHS:
            least, most = (1, 99) if name in ("min", "max") else (1, 1)
            if node.keywords or not least <= len(node.args) <= most:
                several = "numbers" if most > 1 else "one number"
                raise ValueError(f"{name}: {ast.unparse(node)!r}; allowed: {several}")
            return _MATHS[name](*[_value(part, result) for part in node.args])
        case ast.Call(func=ast.Name()):
            return np.float64(Call(node, result).measure())
    raise ValueError(
        f"{ast.unparse(node)!r}; allowed: numbers, + - * / **, functions of statistics"
    )


def _number(name: str, result: xr.DataTree) -> float:
    """The number that a name without parentheses stands for."""
    if name not in _NAMES:
        raise ValueError(f"{name!r}; {suggest(name, _NAMES)}, functions of statistics")
    if name != "dimension":
        return float({"runs": result.attrs["runs"], "pi": np.pi}[name])
    dimension = (result.attrs["config"] or {}).get("system", {}).get("dimension")
    if dimension is None or "dimension" in reading.axes(result):
        raise ValueError("dimension: none; allowed where the whole result has one dimension")
    return float(dimension)


def _is_constant(node: ast.AST) -> bool:
    return not any(isinstance(part, ast.Call | ast.Name) for part in ast.walk(node))
