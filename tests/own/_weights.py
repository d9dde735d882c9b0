"""The weights that are tested, each with its definition in NumPy, and its gradients by complex steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import sympy as sp

import projsym
from projsym.own import OwnAttention, ScalarFamily, i, inner, j, k, norm2, q, v

scale, slope, rate = sp.symbols("scale slope rate", real=True)
cap, sigma, h = sp.symbols("cap sigma h", positive=True)
width, when = ScalarFamily("width", positive=True), ScalarFamily("when")
lean = ScalarFamily("lean")

Weights = Callable[[Any, Any, dict[str, Any]], Any]


@dataclass(frozen=True)
class Example:
    """A weight in SymPy, the same in NumPy from ⟨q, k⟩, ‖q − k‖² and the arguments, and parameters."""

    given: dict[str, Any]
    numpy: Weights
    parameters: dict[str, float]
    saves: str = "lse"
    scalars: tuple[tuple[str, str], ...] = ()
    values: Any = v


def _places(a: dict[str, Any]) -> Any:
    n, m = a["shape"]
    return np.arange(n)[:, None] - np.arange(m)[None, :]


EXAMPLES = {
    "alibi": Example(
        {"weight": sp.exp(scale * inner(q, k[j]) - slope * (i - j))},
        lambda x, r2, a: np.exp(a["scale"] * x - a["slope"] * _places(a)),
        {"scale": 0.4, "slope": 0.11},
    ),
    "alibi_of_a_head": Example(
        {"weight": sp.exp(scale * inner(q, k[j]) - lean[i] * (i - j))},
        lambda x, r2, a: np.exp(a["scale"] * x - a["lean"][:, None] * _places(a)),
        {"scale": 0.4},
        scalars=(("lean", "i"),),
    ),
    "soft_cap": Example(
        {"score": cap * sp.tanh(scale * inner(q, k[j]) / cap)},
        lambda x, r2, a: np.exp(a["cap"] * np.tanh(a["scale"] * x / a["cap"])),
        {"scale": 0.9, "cap": 2.5},
    ),
    "student": Example(
        {"weight": (1 + norm2(q - k[j]) / sigma**2) ** -2},
        lambda x, r2, a: (1 + r2 / a["sigma"] ** 2) ** -2,
        {"sigma": 1.7},
        "mass",
    ),
    "student_half": Example(
        {"weight": (1 + norm2(q - k[j]) / sigma**2) ** sp.Rational(-3, 2)},
        lambda x, r2, a: (1 + r2 / a["sigma"] ** 2) ** -1.5,
        {"sigma": 1.7},
        "mass",
    ),
    "epanechnikov": Example(
        {"weight": sp.Max(0, 1 - norm2(q - k[j]) / h**2)},
        lambda x, r2, a: positive_part(1 - r2 / a["h"] ** 2),
        {"h": 2.6},
        "mass",
    ),
    "biweight_of_the_keys": Example(
        {"weight": sp.Max(0, 1 - norm2(q - k[j]) / h**2) ** 2, "value": k},
        lambda x, r2, a: positive_part(1 - r2 / a["h"] ** 2) ** 2,
        {"h": 3.1},
        "mass",
        values=k,
    ),
    "bandwidth": Example(
        {"weight": width[j] ** -3 * sp.exp(-norm2(q - k[j]) / (2 * width[j] ** 2))},
        lambda x, r2, a: a["width"] ** -3 * np.exp(-r2 / (2 * a["width"] ** 2)),
        {},
        scalars=(("width", "j"),),
    ),
    "forgetting": Example(
        {"weight": sp.exp(scale * inner(q, k[j]) - rate * (when[i] - when[j]))},
        lambda x, r2, a: np.exp(a["scale"] * x - a["rate"] * (a["query_when"][:, None] - a["key_when"])),
        {"scale": 0.4, "rate": 0.7},
        scalars=(("query_when", "i"), ("key_when", "j")),
    ),
    "logistic": Example(
        {"weight": (1 + sp.tanh(scale * inner(q, k[j]) / 2)) / 2},
        lambda x, r2, a: (1 + np.tanh(a["scale"] * x / 2)) / 2,
        {"scale": 0.8},
        "mass",
    ),
}


def positive_part(x: Any) -> Any:
    """``max(0, x)`` by the real part, so that complex steps go through."""
    return np.where(np.real(x) > 0, x, np.zeros_like(x))


@cache
def compiled(name: str) -> OwnAttention:
    """The attention of an example, once a process."""
    return projsym.compile(**EXAMPLES[name].given, name=name)


def arguments(name: str, n: int, m: int, d: int, dtype: Any, seed: int = 0) -> dict[str, Any]:
    """Arrays of one head by the public names, with the parameters."""
    rng, example = np.random.default_rng([seed, n, m, d]), EXAMPLES[name]
    made: dict[str, Any] = {"query": rng.standard_normal((n, d)), "key": rng.standard_normal((m, d))}
    made["value"] = rng.standard_normal((m, d + 2)) if example.values is v else None
    for x, axis in example.scalars:
        made[x] = rng.uniform(0.6, 1.8, n if axis == "i" else m)
    typed = {x: None if a is None else a.astype(dtype) for x, a in made.items()}
    return typed | example.parameters


def reference(name: str, a: dict[str, Any]) -> tuple[Any, Any]:
    """The mean and the saved number by the definition, in the type of the arguments."""
    query, key = a["query"], a["key"]
    value = key if a.get("value") is None else a["value"]
    x = query @ key.T
    r2 = ((query[:, None, :] - key[None, :, :]) ** 2).sum(-1)
    w = EXAMPLES[name].numpy(x, r2, a | {"shape": x.shape})
    z = w.sum(1)
    safe = np.where(z == 0, np.ones_like(z), z)
    out = np.where((z == 0)[:, None], 0, (w @ value) / safe[:, None])
    with np.errstate(divide="ignore"):
        return out, np.log(z) if EXAMPLES[name].saves == "lse" else z


def wide(a: dict[str, Any], kind: Any) -> dict[str, Any]:
    """Arguments in a wider type, parameters too."""
    return {x: None if y is None else np.asarray(y).astype(kind) for x, y in a.items()}


def gradients(name: str, a: dict[str, Any], g: Any, g_saved: Any) -> dict[str, Any]:
    """Gradients of ``Σ g·out + g_saved·saved`` by complex steps of 1e-40 in extended precision."""
    a, found = wide(a, np.clongdouble), {}
    for x, y in a.items():
        if y is None:
            continue
        slopes = np.zeros(y.shape, np.longdouble)
        for at in np.ndindex(y.shape):
            moved = y.copy()
            moved[at] += np.clongdouble(1e-40j)
            out, saved = reference(name, a | {x: moved})
            slopes[at] = ((g * out).sum() + (g_saved * saved).sum()).imag / np.longdouble(1e-40)
        found[x] = slopes
    return found
