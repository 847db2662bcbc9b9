"""Rules: parsed with `ast`, evaluated with a whitelist, on no numbers before the run."""

import ast
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from hdjax import layout
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
# NumPy's give NaN where there is no value, and a rule with NaN fails.
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
    """Find every mistake that can be found before the run: evaluate the rules on no numbers.

    Args:
        rules: the rules.
        empty: a result of the shape that will be, as of `hdjax.layout.empty`.

    Raises:
        ValueError: one line for each rule that is wrong: syntax, unknown functions, statistics,
            paths or axes, times, points or entries that there will not be.

    Example:
        >>> empty = hd.layout.empty("compare", {"risk": ()}, [0.0, 1.0])
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
        result: a result's tree.

    Returns:
        For each rule {"rule", "value", "passed"}; the value is that of the first operand that is
        not a constant, None where it is not finite.

    Raises:
        ValueError: a rule that is wrong, as for `check`, or asks for what the result does not hold.

    Example:
        >>> evaluate(["sup_error(risk) < 0.1"], result.tree)  # doctest: +SKIP
        [{'rule': 'sup_error(risk) < 0.1', 'value': 0.03, 'passed': True}]
    """
    return [_outcome(rule, result) for rule in rules]


def _outcome(text: str, result: xr.DataTree) -> dict[str, Any]:
    """{"rule", "value", "passed"} of one rule."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        if not isinstance(tree, ast.Compare):
            raise ValueError("it compares nothing; allowed: e.g. sup_error(risk) < 0.1")
        if any(type(op) not in _COMPARISONS for op in tree.ops):
            raise ValueError("a comparison that is none of <, <=, >, >=, ==, !=")
        operands = [tree.left, *tree.comparators]
        with np.errstate(all="ignore"):
            values = [float(_value(operand, result)) for operand in operands]
    except SyntaxError as error:
        raise ValueError(f"rule {text!r}: {error.msg} at character {error.offset}") from None
    except (RecursionError, MemoryError):
        raise ValueError(f"rule {text[:60]!r}...: nested too deeply") from None
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
                raise ValueError(f"{ast.unparse(node)!r}: {name} takes one number")
            return _MATHS[name](*[_value(part, result) for part in node.args])
        case ast.Call(func=ast.Name()):
            return np.float64(Call(node, result).measure())
    raise ValueError(
        f"{ast.unparse(node)!r}; allowed: numbers, + - * / **, functions of statistics"
    )


def _number(name: str, result: xr.DataTree) -> float:
    """What a name that stands alone means."""
    if name not in _NAMES:
        raise ValueError(f"{name!r}; {suggest(name, _NAMES)}, functions of statistics")
    if name != "dimension":
        return float({"runs": result.attrs["runs"], "pi": np.pi}[name])
    dimension = (result.attrs["config"] or {}).get("system", {}).get("dimension")
    if dimension is None or "dimension" in layout.axes(result):
        raise ValueError("dimension: the config gives none for all of the result")
    return float(dimension)


def _is_constant(node: ast.AST) -> bool:
    return not any(isinstance(part, ast.Call | ast.Name) for part in ast.walk(node))
