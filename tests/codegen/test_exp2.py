"""The certificate of exp2 against dense evaluation, from both sides."""

from __future__ import annotations

import math
import subprocess
import sys
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray

from projsym.codegen.exp2 import DEGREE, certificate, coefficients
from projsym.codegen.exp2_certificate import certify

DTYPES = ("float32", "float64")


def polynomial(f: NDArray[np.floating], dtype: str) -> NDArray[np.floating]:
    """Horner's rule in `dtype`, a product and a sum per step."""
    y = np.full_like(f, coefficients(dtype)[-1])
    for c in coefficients(dtype)[-2::-1]:
        y = y * f + f.dtype.type(c)
    return y


def fused(f: NDArray[np.float32]) -> NDArray[np.float32]:
    """Horner's rule in float32, one rounding per step: in double a product of floats is exact.

    The sum is rounded to double and then to float; values whose double result is a tie between floats are
    dropped, for they may be rounded twice.
    """
    y, keep = np.full_like(f, coefficients("float32")[-1]), np.ones(f.shape, bool)
    for c in coefficients("float32")[-2::-1]:
        wide = y.astype(np.float64) * f.astype(np.float64) + c
        keep &= (wide.view(np.uint64) & np.uint64((1 << 29) - 1)) != np.uint64(1 << 28)
        y = wide.astype(np.float32)
    return np.where(keep, y, np.nan)


def exact(f: NDArray[np.floating]) -> list[mpmath.mpf]:
    with mpmath.workprec(150):
        return [mpmath.mpf(2) ** mpmath.mpf(float(x)) for x in f]


def worst(y: NDArray[np.floating], f: NDArray[np.floating]) -> float:
    with mpmath.workprec(150):
        errors = (
            abs(mpmath.mpf(float(a)) / b - 1) for a, b in zip(y, exact(f), strict=True) if np.isfinite(a)
        )
        return float(max(errors))


def grid(dtype: str) -> NDArray[np.floating]:
    """Both sides densely, the ends, and the neighbourhood of 0 where the last rounding weighs most."""
    spread = np.linspace(-0.5, 0.5, 2001)
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 2000)
    return np.concatenate([spread, noise, noise * 2.0**-6]).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_coefficients_are_numbers_of_the_type(dtype: str) -> None:
    found = coefficients(dtype)
    assert len(found) == DEGREE[dtype] + 1
    assert found[0] == 1.0
    assert all(float(np.dtype(dtype).type(c)) == c for c in found)


def test_coefficients_are_the_same_in_another_process() -> None:
    code = "from projsym.codegen.exp2 import coefficients as c; print(c('float32') + c('float64'))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": _root()}
    )
    assert run.stdout.strip() == str(coefficients("float32") + coefficients("float64"))


def _root() -> str:
    import projsym.codegen.exp2

    return str(projsym.codegen.exp2.__file__).removesuffix("projsym/codegen/exp2.py")


@pytest.mark.parametrize("dtype", DTYPES)
def test_polynomial_error_is_tight(dtype: str) -> None:
    f = grid(dtype)
    with mpmath.workprec(150):
        c = [mpmath.mpf(x) for x in reversed(coefficients(dtype))]
        seen = max(
            abs(mpmath.polyval(c, mpmath.mpf(float(x))) / b - 1) for x, b in zip(f, exact(f), strict=True)
        )
    # A supremum missed between points 1/2000 apart changes it by far less than the factor allowed.
    assert seen <= certificate(dtype).polynomial_error <= 1.2 * seen


@pytest.mark.parametrize("dtype", DTYPES)
def test_total_error_bounds_evaluation_and_is_near_it(dtype: str) -> None:
    f = grid(dtype)
    seen = worst(polynomial(f, dtype), f)
    assert seen <= certificate(dtype).total_mul_add <= 4 * seen


def test_total_error_bounds_fused_evaluation() -> None:
    f = grid("float32")
    y = fused(f)
    assert np.isfinite(y).mean() > 0.99
    seen = worst(y, f)
    assert seen <= certificate("float32").total <= 4 * seen


@pytest.mark.parametrize("dtype", DTYPES)
def test_reduction_and_scaling_are_exact_and_the_floor_holds(dtype: str) -> None:
    bound, kind = certificate(dtype), np.dtype(dtype).type
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.uniform(bound.lowest - 40, 5, 1000), np.arange(bound.lowest, 3)]).astype(dtype)
    n = np.rint(x)
    f = x - n
    assert all(Fraction(float(a)) - int(b) == Fraction(float(c)) for a, b, c in zip(x, n, f, strict=True))
    assert np.abs(f).max() <= 0.5
    y = np.ldexp(polynomial(f, dtype), n.astype(int)).astype(dtype)
    assert y.dtype == kind
    normal = x >= bound.lowest
    with mpmath.workprec(150):
        for a, b, fine in zip(y, exact(x), normal, strict=True):
            error = abs(mpmath.mpf(float(a)) - b)
            assert error <= (b * bound.total_mul_add if fine else bound.floor)
            if not fine:
                assert 0 <= b <= bound.floor  # so that returning 0 is allowed as well


@pytest.mark.parametrize("dtype", DTYPES)
def test_whole_powers_are_exact(dtype: str) -> None:
    assert polynomial(np.zeros(1, dtype), dtype)[0] == 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("which", range(1, 4))
def test_a_corrupted_coefficient_is_seen(dtype: str, which: int) -> None:
    wrong = list(coefficients(dtype))
    for _ in range(10):
        wrong[which] = float(np.nextafter(np.dtype(dtype).type(wrong[which]), np.dtype(dtype).type(9)))
    good = certificate(dtype)
    assert certify(wrong, dtype).polynomial_error > 2 * good.polynomial_error


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_degree_is_the_best_for_its_cost(dtype: str) -> None:
    degree = DEGREE[dtype]
    less, same, more = (certify(coefficients(dtype, degree + s), dtype).total for s in (-1, 0, 1))
    assert less > 2 * same
    assert more > 0.9 * same


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_figures_are_consistent(dtype: str) -> None:
    c = certificate(dtype)
    assert c.polynomial_error < c.unit_roundoff == np.finfo(dtype).eps / 2
    assert max(c.polynomial_error, c.rounding_error) < c.total <= c.polynomial_error + c.rounding_error
    assert c.rounding_error < c.rounding_error_mul_add < c.total_mul_add == c.worst
    assert c.floor == 4 * float(np.finfo(dtype).tiny) == math.ldexp(1, c.lowest)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"dtype: got 'float16'"):
        coefficients("float16")
    with pytest.raises(ValueError, match=r"degree: got 0"):
        coefficients("float32", 0)
    with pytest.raises(ValueError, match=r"coefficients: 0\.1 is not"):
        certify([1.0, 0.1], "float32")
    with pytest.raises(ValueError, match="at least one"):
        certify([], "float64")
