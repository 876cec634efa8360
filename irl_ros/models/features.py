"""Features of observations and transitions, written in task files as short expressions.

    joint_position                       a field of the contract's observation
    obs[0:3], obs[4], joint_position[2]  elements of the observation or of a field
    goal_position - end_effector_position
    0.06 * unit(object_to_goal)          a number times what follows it
    norm(x), unit(x)                     length of x and its direction (norm's width is 1)
    dot(x, y), cross(x, y)               how far x goes along a direction y; norm(cross(x, y)): how far off it
    clip(x, 0.01)                        x held within ±0.01 and divided by it: what is near, sharp; what is far, a side
    action                               the action, as executed: clipped to [-1, 1]
    next(x)                              x of the next observation o′

They are parsed here, never evaluated as Python.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from irl_ros.contract import Contract, ContractError, Field, did_you_mean

_NUMBER = re.compile(r"\d+(\.\d+)?")
_TOKEN = re.compile(r"\s*([A-Za-z_]\w*|\d+(?:\.\d+)?|[\[\]():,*-])")
_EPSILON = 1e-9
MAX_TOKENS = 256
"""Maximum words and signs of an expression: parsing and evaluation nest by them, and Python nests 1,000 deep."""
SHOWN = 200
"""Characters of an expression that an error quotes."""
MAX_SIZE = 16_384
"""Maximum numbers that a list of expressions has together."""


class Transition(NamedTuple):
    """Arrays with leading shape (…): observation, action, next observation."""

    observation: np.ndarray
    action: np.ndarray
    next_observation: np.ndarray


class Expression(NamedTuple):
    """A parsed feature: evaluates on a Transition to shape (…, size); networks see (value − center) / scale."""

    evaluate: Callable[[Transition], np.ndarray]
    center: np.ndarray
    scale: np.ndarray
    needs_transition: bool

    @property
    def size(self) -> int:
        return len(self.scale)


class Features:
    """A list of expressions as one function to a scaled vector of `size` elements.

    A robot's scales are fixed by the contract (unit by unit), not by the data: a scale that follows five
    demonstrations blows up the joints which they happen not to move.
    """

    def __init__(self, contract: Contract, expressions: Sequence[str]):
        if not expressions:
            raise ContractError(f"task {contract.task.name}: at least one feature is needed")
        self.expressions = tuple(expressions)
        self._parts, self.size = [], 0
        known = {f.name: (f, contract.slices[f.name]) for f in contract.task.fields}
        for text in expressions:
            self._parts.append(_Parser(text, contract, known).parse())
            self.size += self._parts[-1].size
            if self.size > MAX_SIZE:
                raise ContractError(
                    f"task {contract.task.name}: features have {self.size} numbers or more, valid are up to {MAX_SIZE}"
                )
        self._center = np.concatenate([part.center for part in self._parts])
        self._scale = np.concatenate([part.scale for part in self._parts])
        self.needs_transition = any(part.needs_transition for part in self._parts)

    def __call__(
        self, observation: np.ndarray, action: np.ndarray | None = None, next_observation: np.ndarray | None = None
    ) -> np.ndarray:
        """Scaled features, shape (…, size), of observations (…, n) and, where expressions need them, a and o′."""
        if self.needs_transition and (action is None or next_observation is None):
            raise ContractError(f"features {', '.join(self.expressions)} need the action and the next observation")
        transition = Transition(observation, None if action is None else np.clip(action, -1, 1), next_observation)
        found = np.concatenate([part.evaluate(transition) for part in self._parts], axis=-1)
        return (found - self._center) / self._scale


class _Parser:
    """Recursive descent over `product (- product)*`; a product is `number * product` or a term."""

    def __init__(self, text: str, contract: Contract, fields: Mapping[str, tuple[Field, slice]]):
        self._text, self._contract, self._fields = text, contract, fields
        self._tokens = _TOKEN.findall(text)
        if "".join(self._tokens) != re.sub(r"\s", "", text):
            raise self._error("it has a character that features do not use")
        if len(self._tokens) > MAX_TOKENS:
            raise self._error(f"it has {len(self._tokens)} words and signs, valid are up to {MAX_TOKENS}")

    def parse(self) -> Expression:
        expression = self._difference()
        if self._tokens:
            raise self._error(f"unexpected {self._tokens[0]!r}")
        return expression

    def _error(self, reason: str) -> ContractError:
        return ContractError(f"feature {self._text[:SHOWN]!r}: {reason}")

    def _take(self, expected: str | None = None) -> str:
        if not self._tokens or (expected is not None and self._tokens[0] != expected):
            found = repr(self._tokens[0]) if self._tokens else "its end"
            raise self._error(f"expected {expected or 'a name'}, found {found}")
        return self._tokens.pop(0)

    def _difference(self) -> Expression:
        left = self._product()
        while self._tokens and self._tokens[0] == "-":
            self._take()
            left = self._subtract(left, self._product())
        return left

    def _subtract(self, left: Expression, right: Expression) -> Expression:
        if left.size != right.size:
            raise self._error(f"a difference of widths {left.size} and {right.size}")
        return Expression(
            lambda t: left.evaluate(t) - right.evaluate(t),
            left.center - right.center,
            np.maximum(left.scale, right.scale),
            left.needs_transition or right.needs_transition,
        )

    def _product(self) -> Expression:
        if self._tokens[1:2] != ["*"] or not _NUMBER.fullmatch(self._tokens[0]):
            return self._term()
        factor = float(self._take())
        if not 0 < factor < np.inf:
            raise self._error("a factor must be above 0 and finite")
        self._take("*")
        inner = self._product()
        return inner._replace(
            evaluate=lambda t: factor * inner.evaluate(t), center=factor * inner.center, scale=factor * inner.scale
        )

    def _term(self) -> Expression:
        name = self._take()
        if name in ("dot", "cross") and self._tokens[:1] == ["("]:
            return self._pair(name)
        if name == "clip" and self._tokens[:1] == ["("]:
            return self._clip()
        if name in ("norm", "unit", "next") and self._tokens[:1] == ["("]:
            self._take("(")
            inner = self._difference()
            self._take(")")
            return {"norm": _norm, "unit": _unit, "next": _next}[name](inner)
        return self._sliced(name)

    def _pair(self, name: str) -> Expression:
        """dot(x, y) or cross(x, y), uncentred; the scale is the product of both."""
        self._take("(")
        left = self._difference()
        self._take(",")
        right = self._difference()
        self._take(")")
        if left.size != right.size or (name == "cross" and left.size != 3):
            raise self._error(f"{name} of widths {left.size} and {right.size}")
        product, size = (_dot, 1) if name == "dot" else (np.cross, 3)
        return Expression(
            lambda t: product(left.evaluate(t), right.evaluate(t)),
            np.zeros(size),
            np.full(size, left.scale.max() * right.scale.max()),
            left.needs_transition or right.needs_transition,
        )

    def _clip(self) -> Expression:
        """clip(x, limit), uncentred: networks see it between -1 and 1."""
        self._take("(")
        inner = self._difference()
        self._take(",")
        limit = self._take()
        self._take(")")
        if not _NUMBER.fullmatch(limit) or not 0 < float(limit) < np.inf:
            raise self._error(f"clip needs a limit above 0 and finite, not {limit!r}")
        bound = float(limit)
        return inner._replace(
            evaluate=lambda t: np.clip(inner.evaluate(t), -bound, bound),
            center=np.zeros(inner.size),
            scale=np.full(inner.size, bound),
        )

    def _sliced(self, name: str) -> Expression:
        if name == "action":
            size = self._contract.action_size
            center, scale, start, evaluate = np.zeros(size), np.ones(size), 0, lambda t, c: t.action[..., c]
        elif name == "obs" or name in self._fields:
            fields = [self._fields[name][0]] if name in self._fields else self._contract.task.fields
            center = np.concatenate([np.full(f.size, f.center) for f in fields])
            scale = np.concatenate([np.full(f.size, f.scale) for f in fields])
            start = self._fields[name][1].start if name in self._fields else 0
            evaluate = lambda t, c: t.observation[..., c]  # noqa: E731
        else:
            raise self._error(f"unknown name {name!r}.{did_you_mean(name, (*self._fields, 'obs', 'action'))}")
        part = self._slice(name, len(scale))
        columns = slice(start + part.start, start + part.stop)
        return Expression(lambda t: evaluate(t, columns), center[part], scale[part], name == "action")

    def _slice(self, name: str, size: int) -> slice:
        if self._tokens[:1] != ["["]:
            return slice(0, size)
        self._take("[")
        start = self._integer()
        stop = start + 1
        if self._tokens[:1] == [":"]:
            self._take(":")
            stop = self._integer()
        self._take("]")
        if not 0 <= start < stop <= size:
            raise self._error(f"[{start}:{stop}] is outside {name}, which has {size} elements")
        return slice(start, stop)

    def _integer(self) -> int:
        token = self._take()
        if not token.isdigit():
            raise self._error(f"expected an index, found {token!r}")
        return int(token)


def _length(x: np.ndarray) -> np.ndarray:
    return np.sqrt(np.add.reduce(x * x, axis=-1, keepdims=True))


def _dot(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.add.reduce(x * y, axis=-1, keepdims=True)


def _norm(inner: Expression) -> Expression:
    scale = np.array([inner.scale.max()])
    return inner._replace(evaluate=lambda t: _length(inner.evaluate(t)), center=np.zeros(1), scale=scale)


def _unit(inner: Expression) -> Expression:
    def evaluate(t: Transition) -> np.ndarray:
        x = inner.evaluate(t)
        return x / (_length(x) + _EPSILON)

    return inner._replace(evaluate=evaluate, center=np.zeros(inner.size), scale=np.ones(inner.size))


def _next(inner: Expression) -> Expression:
    return inner._replace(
        evaluate=lambda t: inner.evaluate(Transition(t.next_observation, t.action, t.next_observation)),
        needs_transition=True,
    )
