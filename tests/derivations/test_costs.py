"""Counts against a counted execution, crossovers against rational points around them, ranges against the
dtype."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import pytest
import sympy as sp
from flint import arb

from projsym import costs
from projsym.costs import FOLDED, FORMS, STANDARD, TIED, D, Form, H, batch, blocks, crossover, d_h, n
from projsym.proof import ledger, prove
from projsym.proof.verdict import Proved

THEOREMS = {t.id: t for t in ledger.select()[0]}
IDS = ["III.4q", "III.4k", "III.4d", "III.4v", "III.5", "III.5q", "III.6", "III.6t", "III.6r", "III.6f"]
IDS += ["III.6g", "III.6h", "III.6p", "III.6w", "IV.2", "IV.2a", "IV.2g", "IV.3", "IV.3p", "IV.3b", "IV.3f"]


@pytest.mark.parametrize("id", IDS)
def test_the_statement_is_there_and_proved(id: str) -> None:
    assert isinstance(prove(THEOREMS[id]).verdict, Proved)


@dataclass
class Counter:
    """Multiplies matrices and counts two operations for each multiplication."""

    flops: int = 0
    shapes: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        self.flops += 2 * int(np.prod(a.shape[:-1])) * a.shape[-1] * b.shape[-1]
        self.shapes.append((*a.shape, b.shape[-1]))
        return a @ b


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


SIZES = {batch: 2, n: 5, D: 6, H: 3, d_h: 4}


def run(form: Form, mul: Counter) -> tuple[np.ndarray, int]:
    """Executes a form with weights that make all three agree; its output and its number of parameters."""
    rng = np.random.default_rng(0)
    b, tokens, width, heads, each = (SIZES[s] for s in (batch, n, D, H, d_h))
    x = rng.standard_normal((b, tokens, width))
    w_q, w_k = rng.standard_normal((2, width, heads * each))
    m = rng.standard_normal((heads, each, each))
    w_o = rng.standard_normal((heads * each, width))

    def split(y: np.ndarray) -> np.ndarray:
        return y.reshape(b, tokens, heads, each).swapaxes(1, 2)

    def columns(w: np.ndarray, h: int) -> np.ndarray:
        return w[:, h * each : (h + 1) * each]

    w_v = np.concatenate([columns(w_k, h) @ m[h] for h in range(heads)], axis=1)
    w_mo = np.concatenate([m[h] @ w_o[h * each : (h + 1) * each] for h in range(heads)])
    if form is FOLDED:
        a = np.stack([columns(w_q, h) @ columns(w_k, h).T for h in range(heads)])
        out = np.stack([columns(w_v, h) @ w_o[h * each : (h + 1) * each] for h in range(heads)])
        one = np.repeat(x[:, None], heads, axis=1)
        scores = mul(mul(one, a), one.swapaxes(-1, -2))
        return mul(mul(softmax(scores), one), out).sum(axis=1), a.size + out.size
    queries, keys = split(mul(x, w_q)), split(mul(x, w_k))
    values = split(mul(x, w_v)) if form is STANDARD else keys
    mean = mul(softmax(mul(queries, keys.swapaxes(-1, -2))), values)
    joined = mean.swapaxes(1, 2).reshape(b, tokens, heads * each)
    last = w_o if form is STANDARD else w_mo
    weights = (w_q, w_k, w_v, w_o) if form is STANDARD else (w_q, w_k, w_mo)
    return mul(joined, last), sum(w.size for w in weights)


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.name)
def test_what_is_counted_is_what_runs(form: Form) -> None:
    """And the form computes attention: equal outputs for weights that satisfy I.8."""
    mul = Counter()
    out, parameters = run(form, mul)
    assert mul.flops == form.forward.subs(SIZES)
    assert parameters == form.parameters.subs(SIZES)
    assert len(mul.shapes) == len(form.products)
    reference, _ = run(STANDARD, Counter())
    assert np.max(np.abs(out - reference)) <= 1e4 * np.finfo(float).eps * np.max(np.abs(reference))


def test_backward_is_two_products_for_each_forward_product() -> None:
    for form in FORMS:
        assert sp.expand(form.backward - 2 * form.forward) == 0
        scores = next(p for p in form.products if p.name == "scores").flops
        assert sp.expand(form.backward_recomputed - form.backward - scores) == 0


@pytest.mark.parametrize("pair", [(STANDARD, FOLDED), (TIED, FOLDED)], ids=["standard", "tied"])
def test_a_crossover_separates_who_wins(pair: tuple[Form, Form]) -> None:
    """Exact comparison at rational points on both sides of the root, and on it."""
    (root,) = crossover(*pair)
    difference = sp.expand(pair[0].forward - pair[1].forward)
    tried = 0
    for width, ratio in itertools.product((6, 64), (Fraction(7, 10), Fraction(4, 5), Fraction(9, 10))):
        at = {batch: 1, H: 3, D: width, d_h: sp.Rational(ratio.numerator, ratio.denominator) * width}
        where = root.subs(at)
        assert where > 0
        assert difference.subs({**at, n: where}) == 0
        assert difference.subs({**at, n: where * sp.Rational(99, 100)}) > 0
        assert difference.subs({**at, n: where * sp.Rational(101, 100)}) < 0
        tried += 1
    assert tried == 6


@pytest.mark.parametrize(
    ("name", "unknown", "expected"),
    [
        ("backward_recomputed", n, 4 * D * (2 * d_h - D) / (5 * (D - d_h))),
        ("weight_gradients", d_h, D / 2),
        ("parameters", d_h, D / 2),
        ("prefill_traffic", d_h, D * (2 + blocks) / (2 * (1 + blocks))),
        ("decode_traffic", n, 2 * H * (D - d_h) / (2 * H * d_h - D)),
        ("backward_traffic", d_h, D * (2 + 2 * blocks) / (3 + 2 * blocks)),
    ],
)
def test_the_other_crossovers_are_where_the_theorems_say(
    name: str, unknown: sp.Symbol, expected: sp.Expr
) -> None:
    """Standard against folded: [III.6b], [III.5w], [III.6p], [IV.3g], [IV.3h], [IV.3i]; exact comparison."""

    def count(form: Form) -> sp.Expr:
        found = getattr(form, name)
        return found() if callable(found) else found

    (root,) = crossover(STANDARD, FOLDED, unknown, count)
    assert sp.cancel(root - expected) == 0
    at = {batch: 1, H: 3, D: 60, d_h: 50, n: 7, blocks: 4}
    at.pop(unknown)
    where = root.subs(at)
    difference = sp.expand(count(STANDARD) - count(FOLDED)).subs(at)
    sides = [difference.subs(unknown, where * x) for x in (sp.Rational(9, 10), sp.Rational(11, 10))]
    assert where > 0 and sides[0] * sides[1] < 0


def test_what_a_measured_ratio_asks_for() -> None:
    """174 s against 129 s at D = 256 and n = 20: more than tying gives [III.6r, III.6a]."""
    measured, at = sp.Rational(174, 129), {batch: 64, n: 20, D: 256, H: 8, d_h: 256}
    tied, folded = ((STANDARD.forward / form.forward).subs(at) for form in (TIED, FOLDED))
    assert tied < sp.Rational(4, 3) < measured < folded
    share = folded * (measured - 1) / (measured * (folded - 1))
    assert sp.Rational(53, 100) < share < sp.Rational(55, 100)


def test_where_there_is_no_crossover() -> None:
    """Tied against standard: none. Folded: always wins for d_h ≥ D, never for narrow heads."""
    assert crossover(STANDARD, TIED) == ()
    for form, narrow in ((STANDARD, sp.Rational(1, 2)), (TIED, sp.Rational(2, 3))):
        gain = sp.expand(form.forward - FOLDED.forward).subs({batch: 1, H: 2, D: 8})
        for tokens in (1, 10, 1000):
            assert gain.subs({n: tokens, d_h: 8}) > 0 and gain.subs({n: tokens, d_h: 12}) > 0
            assert gain.subs({n: tokens, d_h: 8 * narrow}) < 0 and gain.subs({n: tokens, d_h: 2}) < 0


def test_the_head_width_at_which_folding_starts_to_win() -> None:
    (root,) = crossover(STANDARD, FOLDED, d_h)
    assert sp.expand(root * (2 * D + n) - D * (D + n)) == 0


def test_distances_from_the_product_cost_less_than_differences() -> None:
    direct, expanded = (costs.distance_extra(x) for x in (True, False))
    at = {**SIZES, n: 1000, d_h: 64}
    assert 0 < expanded.subs(at) < direct.subs(at)


def test_traffic_counts_arrays() -> None:
    """One block of queries: read q, k, v and write o once each; keys that are values drop one of four."""
    one = {**SIZES, blocks: 1}
    array = 4 * 2 * 3 * 5 * 4
    assert STANDARD.prefill_traffic(4).subs(one) == 4 * array
    assert TIED.prefill_traffic(4).subs(one) == 3 * array
    assert STANDARD.backward_traffic(4).subs(one) == (2 + 2 + 2 + 4) * array
    assert TIED.backward_traffic(4).subs(one) == (1 + 1 + 2 + 4) * array
    ratio = TIED.prefill_traffic() / STANDARD.prefill_traffic()
    assert sp.limit(ratio, blocks, sp.oo) == sp.Rational(1, 2)
    assert sp.limit(TIED.decode_traffic() / STANDARD.decode_traffic(), n, sp.oo) == sp.Rational(1, 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("keys", [1, 1000, 2**20])
def test_the_score_range_is_safe_and_not_wasteful(dtype: type, keys: int) -> None:
    """In balls: the ends meet the stated conditions, and ends larger by 2 would not."""
    info, got = np.finfo(dtype), costs.score_range(dtype, keys)
    tiny, largest = arb(float(info.tiny)), arb(float(info.max))
    assert (arb(-2) * arb(got.static)).exp() >= 2 * tiny
    assert not (arb(-2) * arb(got.static + 2)).exp() >= 2 * tiny
    plain = arb(got.plain)
    assert (-plain).exp() >= 2 * tiny and keys * plain.exp() <= largest / 2
    more = arb(got.plain + 2)
    assert not ((-more).exp() >= 2 * tiny and keys * more.exp() <= largest / 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_inside_the_range_no_exponential_underflows(dtype: type) -> None:
    keys = 1000
    got = costs.score_range(dtype, keys)
    shift = dtype(got.static)
    static = np.exp(np.array([-shift, shift], dtype) - shift)
    assert static.dtype == dtype and np.all(static >= np.finfo(dtype).tiny)
    plain = np.exp(np.full(keys, dtype(got.plain)))
    assert np.isfinite(plain.sum()) and np.exp(-dtype(got.plain)) >= np.finfo(dtype).tiny


def test_what_score_range_refuses() -> None:
    with pytest.raises(TypeError, match="float32 and float64"):
        costs.score_range(np.float16, 10)
    with pytest.raises(ValueError, match="keys = 0"):
        costs.score_range(np.float32, 0)
