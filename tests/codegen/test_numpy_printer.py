"""Printed NumPy modules against the formula of each form, in blocks, at edge sizes, in both dtypes."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

sys.path.insert(0, str(Path(__file__).parent))
from _numpy_programs import PARAMETER, WEIGHTS, plain, reference

from projsym.codegen import schedule
from projsym.codegen.numpy_printer import emit_numpy
from projsym.codegen.program import Dot, Input, Let, Loop, Output, Program, Sum, symbol

SIZES = [(0, 5), (1, 0), (1, 1), (5, 7), (7, 8), (9, 17), (33, 20)]


def load(program: Program) -> Callable[..., tuple[np.ndarray, np.ndarray, int]]:
    space: dict[str, object] = {}
    exec(compile(emit_numpy(program), program.name, "exec"), space)
    return space[program.name]  # type: ignore[return-value]


def scheduled(program: Program, keys: int = 8, queries: int = 4) -> Program:
    """The schedule that the generator uses, with blocks small enough to have whole, cut and single ones."""
    steps = [
        s for s in schedule.default(program, "float64") if "block" not in s.text and "tile" not in s.text
    ]
    return schedule.apply(program, [*steps, schedule.block("j", keys), schedule.block("i", queries)])


def data(H: int, n: int, m: int, d: int, dtype: type, seed: int = 0) -> tuple[np.ndarray, ...]:
    r = np.random.default_rng(seed)
    shapes = ((H, n, d), (H, m, d), (H, m, d + 3), (H, m))
    return tuple(r.standard_normal(s).astype(dtype) for s in shapes)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("values", ["k", "v"])
@pytest.mark.parametrize("form", sorted(WEIGHTS))
@pytest.mark.parametrize("shape", [plain, scheduled], ids=["plain", "scheduled"])
def test_forms(shape: object, form: str, values: str, dtype: type) -> None:
    program = plain(form, values) if shape is plain else scheduled(plain(form, values))
    run = load(program)
    u = float(np.finfo(dtype).eps) / 2
    for H, (n, m) in zip([2, 1, 3, 2, 0, 1, 2], SIZES, strict=True):
        d = 5
        q, k, v, bias = data(H, n, m, d, dtype)
        parameter = 0.5 if PARAMETER[form] == "scale" else 3.7
        args = [q, k, *([v] if values == "v" else []), *([bias] if form == "biased" else []), parameter]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            out, lse, bad = run(*args)
        want, want_lse, bound, lse_bound = reference(
            form, q, k, v if values == "v" else k, parameter, bias, u
        )
        assert (out.dtype, lse.dtype, bad) == (dtype, dtype, 0)
        assert out.shape == (H, n, d + 3 if values == "v" else d) and lse.shape == (H, n)
        assert (abs(out - want) <= bound).all()
        seen = np.isfinite(want_lse)
        assert (abs(lse - np.where(seen, want_lse, 0))[seen] <= lse_bound[seen]).all()
        assert np.isneginf(lse[~seen]).all()


def unbounded(form: str, values: str = "v") -> tuple[Program, Program]:
    """The program with a running maximum and the one without, in blocks that 70 queries cut."""
    steps = [s for s in schedule.default(plain(form, values), "float64", "numpy") if "block" not in s.text]
    steps += [schedule.block("j", 8), schedule.block("i", 32)]
    free = schedule.without_maximum(plain(form, values), steps)
    assert free
    return schedule.apply(plain(form, values), steps), schedule.apply(plain(form, values), free)


def without_second_branch(text: str) -> str:
    """The module with a running maximum that fails, so that only blocks without one pass."""
    assert text.count("np.maximum(m, ") == 1
    return text.replace("np.maximum(m, ", "_absent(m, ")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("values", ["k", "v"])
@pytest.mark.parametrize("form", ["dot", "gaussian", "biased"])
def test_rows_whose_scores_norms_bound_have_no_maximum(form: str, values: str, dtype: type) -> None:
    program, free = unbounded(form, values)
    text = emit_numpy(program, bounded=free)
    checked: dict[str, Callable[..., tuple[np.ndarray, np.ndarray, int]]] = {}
    exec(compile(without_second_branch(text), form, "exec"), checked)
    run = checked[program.name]
    for H, m in ((2, 20), (1, 8), (3, 0)):
        q, k, v, bias = data(H, 70, m, 5, dtype)
        parameter = 0.25 if PARAMETER[form] == "scale" else 3.7
        args = [q, k, *([v] if values == "v" else []), *([bias] if form == "biased" else []), parameter]
        out, lse, bad = run(*args)
        want, want_lse, bound, lse_bound = reference(
            form, q, k, v if values == "v" else k, parameter, bias, float(np.finfo(dtype).eps) / 2
        )
        assert bad == 0 and (abs(out - want) <= bound).all()
        seen = np.isfinite(want_lse)
        assert (abs(lse - np.where(seen, want_lse, 0))[seen] <= lse_bound[seen]).all()
        assert np.isneginf(lse[~seen]).all()
    q, k, v, bias = data(1, 70, 20, 5, dtype)
    q[:, 40] *= 1e3  # one long query is enough for its block to keep the maximum
    with pytest.raises(NameError, match="_absent"):
        run(q, k, *([v] if values == "v" else []), *([bias] if form == "biased" else []), parameter)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("what", ["queries", "keys", "values", "bias", "tiny"])
def test_what_norms_do_not_bound_keeps_the_maximum(what: str, dtype: type) -> None:
    """Results are those of the program with a maximum, bit by bit, and finite."""
    program, free = unbounded("biased")
    q, k, v, bias = data(2, 70, 20, 5, dtype)
    scale, huge = 0.25, float(np.finfo(dtype).max)
    if what == "queries":
        q *= 1e4
    elif what == "keys":
        k[:, 3] *= 1e4
    elif what == "values":
        v[:, 7] = -huge / 64
    elif what == "bias":
        bias[:, 5:] = -np.inf
    else:  # squares of the keys are zero, inner products are not small
        q, k, scale = np.full_like(q, huge**0.25), np.full_like(k, huge**-0.625), huge**0.4
    space: dict[str, Callable[..., tuple[np.ndarray, np.ndarray, int]]] = {}
    exec(compile(emit_numpy(program, bounded=free), "both", "exec"), space)
    got, want = space[program.name](q, k, v, bias, scale), load(program)(q, k, v, bias, scale)
    assert np.isfinite(got[0]).all() and got[2] == want[2] == 0
    assert np.array_equal(got[0], want[0]) and np.array_equal(got[1], want[1])


def test_a_bounded_program_of_another_kernel_is_refused() -> None:
    with pytest.raises(ValueError, match="bounded program has other arguments"):
        emit_numpy(unbounded("dot")[0], bounded=unbounded("biased")[1])


def test_rows_of_ranges_keep_the_maximum() -> None:
    """So no bit of a row depends on keys that it does not see."""
    program, free = unbounded("dot")
    q, k, v, _ = data(1, 70, 20, 5, np.float32)
    low, high = np.zeros((1, 70), int), np.full((1, 70), 9)
    space: dict[str, Callable[..., tuple[np.ndarray, np.ndarray, int]]] = {}
    exec(compile(emit_numpy(program, bounded=free), "both", "exec"), space)
    run = space[program.name]
    k2 = k.copy()
    k2[:, 9:] *= 1e5
    first, second = (run(q, x, v, 0.25, _lo=low, _hi=high)[0] for x in (k, k2))
    assert np.array_equal(first, second)


def test_the_bound_would_catch_a_dropped_term() -> None:
    """The tolerance is not so wide that a kernel without its key norms passes."""
    q, k, _, bias = data(1, 6, 9, 5, np.float32)
    want, _, bound, _ = reference("gaussian", q, k, k, 2.0, bias, 2.0**-24)
    wrong, _, _ = load(plain("dot"))(q, k, 0.25)
    assert (abs(wrong - want) > bound).any()


def test_all_weights_zero() -> None:
    q, k, _, bias = data(2, 5, 11, 4, np.float32)
    bias[0] = -np.inf
    bias[1, :9] = -np.inf
    for program in (plain("biased"), scheduled(plain("biased"))):
        out, lse, bad = load(program)(q, k, bias, 1.0)
        assert bad == 0 and not out[0].any() and np.isneginf(lse[0]).all()
        want, _, _ = load(plain("biased"))(q[1:], k[1:, 9:], bias[1:, 9:], 1.0)
        # Excluded keys contribute exact zeros: two terms are left, summed in either order.
        bound = 2 * abs(k).max() * 32 * 2.0**-24 * (1 + abs(q[1]) @ abs(k[1]).T).max()
        assert np.isfinite(lse[1]).all() and (abs(out[1:] - want) <= bound).all()


def test_epanechnikov_far_away_is_the_unit() -> None:
    q, k = np.full((1, 2, 3), 100.0), np.zeros((1, 4, 3))
    for program in (plain("epanechnikov"), scheduled(plain("epanechnikov"))):
        out, lse, bad = load(program)(q, k, 1.0)
        assert bad == 0 and not out.any() and np.isneginf(lse).all()


def test_overflow_is_counted_by_row() -> None:
    q, k, _, _ = data(2, 3, 4, 5, np.float32)
    q[1, 2] = 3e38
    for program in (plain("dot"), scheduled(plain("dot"))):
        assert load(program)(q, k, 4.0)[2] == 1


def test_scalar_output_may_be_left_out() -> None:
    q, k, _, _ = data(1, 3, 4, 5, np.float64)
    out, lse, _ = load(plain("dot"))(q, k, 1.0, lse=False)
    assert lse is None and np.array_equal(out, load(plain("dot"))(q, k, 1.0)[0])


def test_views_are_read_in_place() -> None:
    """Any strides: the result of a strided view equals that of its copy within the bound of the form."""
    q, k, _, bias = data(2, 6, 9, 5, np.float64)
    wide_q, wide_k = np.zeros((6, 2, 10)), np.zeros((9, 2, 5))
    wide_q[:, :, ::2] = q.swapaxes(0, 1)
    wide_k[:] = k.swapaxes(0, 1)
    out, _, _ = load(scheduled(plain("dot")))(wide_q.swapaxes(0, 1)[:, :, ::2], wide_k.swapaxes(0, 1), 0.3)
    want, _, bound, _ = reference("dot", q, k, k, 0.3, bias, 2.0**-53)
    assert (abs(out - want) <= bound).all()


def test_tiny_and_huge_parameters_are_combined_in_double() -> None:
    """1/(2 sigma^2) is formed before it is rounded: sigma^2 itself would be subnormal in float32."""
    q, k, _, bias = data(1, 3, 5, 4, np.float32)
    q, k, sigma = q * np.float32(1e-19), k * np.float32(1e-19), 1e-20 * 2**4
    want, _, bound, _ = reference("gaussian", q, k, k, sigma, bias, 2.0**-24)
    # Squares of such keys are subnormal: each loses up to the smallest subnormal.
    lost = 5 * 2.0**-149 / (2 * sigma**2)
    out, _, bad = load(plain("gaussian"))(q, k, sigma)
    assert bad == 0 and (abs(out - want) <= bound + 2 * abs(k).max() * np.expm1(2 * lost)).all()


def test_repeated_factors_use_their_own_registers() -> None:
    """A pair symbol read by several operands is not overwritten before its last use."""
    x, y, w, s = map(symbol, ("x", "y", "w", "s"))
    value = x * (x + 1) - (x + 1) / (x**2 + 2) + sp.sqrt(x**2 + 2) * y - y / (1 + sp.Abs(x)) + sp.Min(x, y)
    body = (Dot(x, "ij", "q", "k"), Let(y, "ij", x - 3), Let(w, "ij", value), Sum(s, w), Sum(symbol("t"), y))
    outs = (Output("a", ((s, None),)), Output("b", ((symbol("t"), None),)))
    inputs = (Input("q", "i", "d"), Input("k", "j", "d"))
    program = Program("f", inputs, (Loop("h", (Loop("i", (Loop("j", body, block=3), *outs)),)),))
    # Small integers: inner products are exact, so only the printed expression is at stake.
    r = np.random.default_rng(0)
    q, k = (r.integers(-2, 3, (1, n, 2)).astype(float) for n in (4, 7))
    a, b, _ = load(program)(q, k)
    X = q @ k.swapaxes(1, 2)
    want = sp.lambdify((x, y), value, "numpy")(X, X - 3)
    assert np.array_equal(b, (X - 3).sum(-1))
    assert (abs(a - want.sum(-1)) <= 40 * 2.0**-53 * (abs(X) ** 2 + 9).sum(-1) * 4).all()


def test_bytes_do_not_depend_on_the_hash_seed() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import hashlib; from test_numpy_printer import *\n"
        "t = ''.join(emit_numpy(scheduled(plain(f)), 'x') + emit_numpy(plain(f)) for f in sorted(WEIGHTS))\n"
        "print(hashlib.sha256(t.encode()).hexdigest())"
    )
    root = str(Path(__file__).parents[2])
    seen = set()
    for seed in ("0", "1", "77"):
        env = {"PYTHONHASHSEED": seed, "PYTHONPATH": root, "PATH": ""}
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env=env, check=True
        )
        seen.add(done.stdout)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.with_(inputs=(Input("_q", "i", "d"), *p.inputs[1:])), "_q"),
        (lambda p: p.with_(body=p.body[0].body), "loop over heads"),
        (lambda p: p.with_(body=(Loop("h", (Loop("j", (Loop("i", ()),)),)),)), "only scalars"),
        (lambda p: p.with_(inputs=p.inputs[:1]), "input per key"),
    ],
)
def test_trees_it_cannot_print(change: Callable[[Program], Program], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        emit_numpy(change(plain("dot")))


def test_unknown_function() -> None:
    x, w, s = map(symbol, "xws")
    body = (Dot(x, "ij", "q", "k"), Let(w, "ij", sp.gamma(x)), Sum(s, w))
    tree = (Loop("h", (Loop("i", (Loop("j", body), Output("a", ((s, None),)))),)),)
    with pytest.raises(ValueError, match="gamma"):
        emit_numpy(Program("f", (Input("q", "i", "d"), Input("k", "j", "d")), tree))
