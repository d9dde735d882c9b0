"""Names of symbols as text and as LaTeX."""

import pytest
import sympy as sp

from projsym.algebra import VectorFamily, index, inner, norm2, total
from projsym.algebra.sets import IndexSet
from projsym.proof.text import latex, text


@pytest.mark.parametrize(
    ("name", "plain", "tex"),
    [
        ("x", "x", "x"),
        ("m_12", "m_12", "m_{12}"),
        ("alpha", "α", r"\alpha"),
        ("sigma_1", "σ_1", r"\sigma_{1}"),
        ("batch", "batch", r"\operatorname{batch}"),
        ("dA", "dA", "dA"),
    ],
)
def test_names(name: str, plain: str, tex: str) -> None:
    assert (text(sp.Symbol(name)), latex(sp.Symbol(name))) == (plain, tex)


def test_words_in_index_sets_and_products_stay_words() -> None:
    k, near = VectorFamily("k"), IndexSet("near")
    assert (
        latex(total(lambda j: norm2(k[j]), near))
        == r"\sum_{j \in \operatorname{near}} \lVert {k}_{j} \rVert^2"
    )
    size, count = sp.symbols("bytes batch")
    assert latex(size * count) == r"\operatorname{batch} \operatorname{bytes}"
    j = index("j")
    assert text(inner(k[j], k[j])) == "‖k_j‖²"
