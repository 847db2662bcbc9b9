"""Rules: parsed with `ast` and a whitelist, checked before the run, evaluated after it."""

import ast
import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from hdjax import layout
from hdjax.expect.functions import Call, Names
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


def check(rules: Sequence[str], names: Names) -> None:
    """Find every mistake that can be found before the run.

    Raises:
        ValueError: one line for each rule that is wrong: syntax, unknown functions, statistics,
            paths or axes, times or points that will not be recorded.

    Example:
        >>> check(["sup_error(risk) < 0.1"], Names("compare", ["risk"]))
    """
    mistakes = []
    for rule in rules:
        try:
            _Rule(rule, names)
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
    attrs, axes = result.attrs, layout.axes(result)
    names = Names(
        attrs["kind"],
        attrs["statistics"],
        attrs["paths"],
        layout.times(result).tolist(),
        {axis: layout.labels(result, axis).tolist() for axis in axes},
        (attrs["config"] or {}).get("system", {}).get("dimension"),
    )
    return [_Rule(rule, names).outcome(result) for rule in rules]


class _Rule:
    """A rule, parsed and checked."""

    def __init__(self, text: str, names: Names):
        self.text, self.names = text, names
        try:
            tree = ast.parse(text.strip(), mode="eval").body
            if not isinstance(tree, ast.Compare):
                raise ValueError("it compares nothing; allowed: e.g. sup_error(risk) < 0.1")
            if any(type(op) not in _COMPARISONS for op in tree.ops):
                raise ValueError("a comparison that is none of <, <=, >, >=, ==, !=")
            self.comparisons = [_COMPARISONS[type(op)] for op in tree.ops]
            self.operands = [tree.left, *tree.comparators]
            for operand in self.operands:
                self._check(operand)
        except SyntaxError as error:
            raise ValueError(f"rule {text!r}: {error.msg} at character {error.offset}") from None
        except (RecursionError, MemoryError):
            raise ValueError(f"rule {text[:60]!r}...: nested too deeply") from None
        except ValueError as error:
            raise ValueError(f"rule {text!r}: {error}") from None

    def outcome(self, result: xr.DataTree) -> dict[str, Any]:
        """{"rule", "value", "passed"} on a result."""
        try:
            with np.errstate(all="ignore"):
                values = [float(self._value(operand, result)) for operand in self.operands]
        except ValueError as error:
            raise ValueError(f"rule {self.text!r}: {error}") from None
        pairs = zip(self.comparisons, values[:-1], values[1:], strict=True)
        passed = all(math.isfinite(v) for v in values) and all(op(a, b) for op, a, b in pairs)
        varying = (v for v, o in zip(values, self.operands, strict=True) if not _is_constant(o))
        value = next(varying, values[0])
        return {
            "rule": self.text,
            "value": value if math.isfinite(value) else None,
            "passed": passed,
        }

    def _check(self, node: ast.AST) -> None:
        match node:
            case ast.Constant(value=int() | float()) if not isinstance(node.value, bool):
                return
            case ast.BinOp() if type(node.op) in _ARITHMETIC:
                parts = [node.left, node.right]
            case ast.UnaryOp() if type(node.op) in _ARITHMETIC:
                parts = [node.operand]
            case ast.Name() if node.id in _NAMES:
                if node.id == "dimension" and self.names.dimension is None:
                    raise ValueError("dimension: the config gives none for all of the result")
                return
            case ast.Name():
                raise ValueError(
                    f"{node.id!r}; {suggest(node.id, _NAMES)}, functions of statistics"
                )
            case ast.Call(func=ast.Name(id=name)) if name in _MATHS:
                least, most = (1, 99) if name in ("min", "max") else (1, 1)
                if node.keywords or not least <= len(node.args) <= most:
                    raise ValueError(f"{ast.unparse(node)!r}: {name} takes one number")
                parts = node.args
            case ast.Call(func=ast.Name()):
                Call(node, self.names)
                return
            case _:
                raise ValueError(
                    f"{ast.unparse(node)!r}; allowed: numbers, + - * / **, functions of statistics"
                )
        for part in parts:
            self._check(part)

    def _value(self, node: Any, result: xr.DataTree) -> Any:
        match node:
            case ast.Constant(value=int() | float() as number):
                return np.float64(number)
            case ast.BinOp():
                operate = _ARITHMETIC[type(node.op)]
                return operate(self._value(node.left, result), self._value(node.right, result))
            case ast.UnaryOp():
                return _ARITHMETIC[type(node.op)](self._value(node.operand, result))
            case ast.Name(id=name):
                named = {
                    "runs": result.attrs["runs"],
                    "dimension": self.names.dimension,
                    "pi": np.pi,
                }
                return np.float64(named[name])
            case ast.Call(func=ast.Name(id=name)) if name in _MATHS:
                return _MATHS[name](*[self._value(part, result) for part in node.args])
        return np.float64(Call(node, self.names).measure(result))


def _is_constant(node: ast.AST) -> bool:
    return not any(isinstance(part, ast.Call | ast.Name) for part in ast.walk(node))
