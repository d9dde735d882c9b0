"""Each weight against its definition: outputs and gradients of every kernel in balls of its rounding.

The tolerance is proved, not chosen: the program that a kernel was printed from is run in balls widened by the
rounding of every operation (`projsym.codegen.enclosure`), which hold what the kernel returns and the exact
value. The definition, in extended precision, is off by less than 2**-10 of a ball's radius. Gradients are
compared with complex steps through the definition; their balls start from the balls of what the forward pass
saved, so they hold the exact gradient as well as the kernel's.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flint import arb

from projsym.check import NUMPY_EXP_ERROR
from projsym.codegen.enclosure import enclose

from ._weights import EXAMPLES, arguments, compiled, gradients, reference, wide

TARGETS = [("float32", "c"), ("float64", "c"), ("float32", "numpy"), ("float64", "numpy")]
SLACK = 1 + 2.0**-10
SIZES = [(1, 1), (3, 63), (2, 64), (2, 65)]
names = pytest.mark.parametrize("name", sorted(EXAMPLES))
targets = pytest.mark.parametrize(("dtype", "backend"), TARGETS)
two_targets = pytest.mark.parametrize(("dtype", "backend"), [("float32", "c"), ("float64", "numpy")])


def inputs(name: str, a: dict[str, Any]) -> dict[str, Any]:
    """Arguments by the names of the program's inputs, with the positions."""
    renamed = {{"query": "q", "key": "k", "value": "v"}.get(x, x): y for x, y in a.items() if y is not None}
    n, m = len(a["query"]), len(a["key"])
    return renamed | {"query_position": np.arange(n), "key_position": np.arange(m)}


def balls(name: str, which: str, dtype: str, backend: str, given: dict[str, Any]) -> list[dict[str, Any]]:
    """The balls of a kernel's outputs: of the program with a running maximum and of that without."""
    own = compiled(name)
    built = own.sources[which].build("numpy" if backend == "numpy" else f"c/{dtype}")
    error = NUMPY_EXP_ERROR[dtype] if backend == "numpy" else None
    programs = [p for p in (built.program, built.bounded) if p is not None]
    return [enclose(p, given, dtype, error, error) for p in programs]


def within(x: Any, ball: tuple[Any, Any], slack: float = 1.0) -> bool:
    """Whether all of `x` is in the balls."""
    centre, radius = ball
    assert np.isfinite(radius).all() and radius.shape == np.shape(x)
    return bool((abs(np.asarray(x) - centre) <= slack * radius).all())


@names
@targets
def test_outputs_are_in_their_balls(name: str, dtype: str, backend: str) -> None:
    own = compiled(name)
    for n, m in SIZES:
        a = arguments(name, n, m, 3, dtype)
        out, saved = own(return_saved=True, backend=backend, **a)
        exact, exact_saved = reference(name, wide(a, np.longdouble))
        found = balls(name, "forward", dtype, backend, inputs(name, a))
        assert any(within(out, b["out"]) and within(saved, b[own.saves]) for b in found)
        for b in found:
            assert within(exact, b["out"], SLACK) and within(exact_saved, b[own.saves], SLACK)
        assert out.dtype == saved.dtype == dtype


def held(ball: tuple[Any, Any]) -> list[Any]:
    """Balls as the inputs of another program."""
    centre, radius = ball
    pairs = np.stack([centre, radius], -1).tolist()
    return [[arb(*x) for x in row] if isinstance(row[0], list) else arb(*row) for row in pairs]


@names
@two_targets
def test_gradients_are_in_their_balls(name: str, dtype: str, backend: str) -> None:
    own, (n, m) = compiled(name), (3, 10)
    a = arguments(name, n, m, 3, dtype, seed=1)
    rng = np.random.default_rng(2)
    value = a["key"] if a["value"] is None else a["value"]
    g, g_saved = (rng.standard_normal(x).astype(dtype) for x in ((n, value.shape[-1]), n))
    out, saved = own(return_saved=True, backend=backend, **a)
    assert (abs(saved) < np.inf).all() and (own.saves == "lse" or (saved > 0).all())
    made = own.backward(
        g, a.pop("query"), a.pop("key"), a.pop("value"), out, saved, g_saved=g_saved, backend=backend, **a
    )
    a = arguments(name, n, m, 3, dtype, seed=1)
    exact = gradients(name, a, g.astype(np.longdouble), g_saved.astype(np.longdouble))
    assert made.keys() == {x for x, y in a.items() if y is not None}
    for forward in balls(name, "forward", dtype, backend, inputs(name, a)):
        if not within(out, forward["out"]):
            continue
        given = inputs(name, a) | {"g": g, f"g_{own.saves}": g_saved}
        given |= {"out": held(forward["out"]), own.saves: held(forward[own.saves])}
        (found,) = balls(name, "backward", dtype, backend, given)
        for x, y in made.items():
            centre, radius = found[{"query": "dq", "key": "dk", "value": "dv"}.get(x, f"d{x}")]
            if not y.ndim:
                # The parts of the queries are added in double and rounded once.
                u = float(np.finfo(dtype).eps)
                centre, radius = centre.sum(), (radius + u * (abs(centre) + radius)).sum()
            assert within(y, (centre, radius)), x
            assert within(exact[x], (centre, radius), SLACK), x


@names
def test_a_wrong_weight_is_seen(name: str) -> None:
    """The balls are not so wide that another weight passes: a parameter off by a thousandth is outside."""
    a = arguments(name, 3, 63, 3, "float32")
    changed = next(iter([*EXAMPLES[name].parameters, *(x for x, _ in EXAMPLES[name].scalars)]))
    out = compiled(name)(backend="c", **a)
    other = a | {changed: a[changed] * np.float32(1.01)}
    if not np.shape(a[changed]):
        other[changed] = float(other[changed])
    for b in balls(name, "forward", "float32", "c", inputs(name, other)):
        assert not within(out, b["out"])


@names
@two_targets
def test_sizes_at_the_edges(name: str, dtype: str, backend: str) -> None:
    own = compiled(name)
    for n, m, d in [(0, 5, 3), (2, 0, 3), (0, 0, 3), *[(2, 3, 0)] * (backend == "numpy")]:
        a = arguments(name, n, m, d, dtype)
        out, saved = own(return_saved=True, backend=backend, **a)
        width = d if a["value"] is None else d + 2
        assert out.shape == (n, width) and saved.shape == (n,)
        if m == 0:
            assert not out.any() and (saved == (-np.inf if own.saves == "lse" else 0)).all()
        g = np.ones_like(out)
        rest = {x: y for x, y in a.items() if x not in ("query", "key", "value")}
        made = own.backward(g, a["query"], a["key"], a["value"], out, saved, backend=backend, **rest)
        for x, y in made.items():
            assert np.isfinite(y).all() and y.shape == np.shape(a[x]), x
            if m == 0:
                assert not y.any(), x
