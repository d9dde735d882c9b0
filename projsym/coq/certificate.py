"""Proof scripts: the normal form's way through a step, replayed in Coq sum by sum.

The normal form only suggests the intermediate terms. Coq proves each of them from the definitions and lemmas
of base.v, so a wrong normal form gives a script that does not compile, never a false theorem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from math import gcd, lcm
from typing import Any

import sympy as sp

from projsym.algebra.generators import Product, Total, transpose
from projsym.algebra.normal import Normaliser
from projsym.algebra.poly import Poly
from projsym.algebra.powers import exponential
from projsym.algebra.scalars import FiniteSum, Inner
from projsym.algebra.sums import sum_over
from projsym.algebra.terms import Vector, VectorSymbol
from projsym.algebra.theory import Theory

from .names import TEST, NotExported
from .pieces import pieces
from .printer import NormalPrinter, OpenedPrinter, atom, index_set, rational


@dataclass
class Certificate:
    """Writes the script of one equation.

    theory: the normal form's, with the rules of the hypotheses in force; unfold: their definitions put into a
    term; definitions and norms: the names in Coq of the hypotheses to rewrite with.
    """

    theory: Theory
    unfold: Callable[[Any], Any]
    definitions: tuple[str, ...] = ()
    norms: tuple[str, ...] = ()
    normal: NormalPrinter = field(default_factory=NormalPrinter)

    def __post_init__(self) -> None:
        self.normaliser = Normaliser(self.theory)

    def equation(self, left: Any, right: Any, indices: dict[sp.Symbol, str]) -> list[str]:
        """The script of ``left = right``; run twice to learn the units of the exponents."""
        printer = OpenedPrinter(indices)
        lines: list[str] = []
        for _ in range(2):
            lines = []
            if isinstance(left, Vector):
                lines.append(f"apply by_products; intros {TEST}.")
                test = VectorSymbol(TEST, left.space)
                sides = (Inner(left, test), Inner(right, test))
            else:
                sides = (left, right)
            lines += [*self._rewrite(sides, printer), "algebra."]
            self.normal.units = {kind: _unit(met) for kind, met in self.normal.met.items()}
        return lines

    def _poly(self, e: Any, printer: OpenedPrinter) -> Poly:
        return self.normaliser.scalar(self.unfold(e), dict(printer.indices))

    def _rewrite(self, terms: Iterable[Any], printer: OpenedPrinter) -> list[str]:
        """Lines that bring sums, exponentials and inner products of the goal to normal form."""
        texts = {printer.scalar(piece): piece for e in terms for piece in pieces(e)}
        lines = ["expose."]
        # What contains another comes first: it would not be recognised once the other is rewritten.
        for text, piece in sorted(texts.items(), key=lambda t: -len(t[0])):
            lines += (self._sum if isinstance(piece, FiniteSum) else self._exp)(piece, text, printer)
        return lines + self._leaves(terms, printer)

    def _leaves(self, terms: Iterable[Any], printer: OpenedPrinter) -> list[str]:
        """Inner products outside of sums: expanded, turned the canonical way round, hypotheses used."""
        lines = [f"rewrite ?{', ?'.join(self.definitions)}."] if self.definitions else []
        lines.append("expand.")
        turned = sorted({t for e in terms for t in self._turned(e, printer)})
        if turned:
            lines.append(f"rewrite {', '.join(f'?(inner_sym {t})' for t in turned)}.")
        return lines + ([f"rewrite ?{', ?'.join(self.norms)}."] if self.norms else [])

    def _turned(self, e: Any, printer: OpenedPrinter) -> set[str]:
        """The pairs of vectors whose inner product the normal form writes the other way round."""
        out: set[str] = set()
        for node in sp.preorder_traversal(self.unfold(e)):
            if isinstance(node, Inner) and node.free_symbols.isdisjoint(_bound(node, printer)):
                left, right = (self.normaliser.parts(x, dict(printer.indices)) for x in node.args)
                out |= {t for p in left for q in right for t in self._turn(p, q)}
        return out

    def _turn(self, p: Any, q: Any) -> set[str]:
        if p.binders or q.binders:
            return set()
        g = Product(p.atom, p.word + transpose(q.word), q.atom)
        wanted = self.normal.letter(g)
        sides = [_applied(x) for x in (p, q)]
        return {f"{a} {b}" for a, b in (sides, sides[::-1]) if f"(inner {a} {b})" != wanted and a != b}

    def _exp(self, e: Any, text: str, printer: OpenedPrinter) -> list[str]:
        """``exp(sum of c * mono)`` as a product of integer powers of unit exponentials."""
        p = self._poly(e.args[0], printer)
        ((product, coefficient),) = exponential(p).terms.items()
        if coefficient != 1 or len(product) != len(p.terms):
            raise NotExported("the exponential of a logarithm")
        lines = [
            f"assert (N : {text} = {self.normal.mono(product)}).",
            f"{{ transitivity (exp {self.normal.poly(p)}).",
            *_indent(["{ apply f_equal.", *_indent(self._leaves([e.args[0]], printer)), "  algebra. }"]),
            "  rewrite ?exp_plus, ?exp_0.",
        ]
        for mono, c in p.terms.items():
            times = c / self.normal.unit(mono, c)
            if times != 1:
                name = "exp_multiple" if times > 0 else "exp_divisor"
                of = f"{rational(c)} {rational(c / times)} {self.normal.mono(mono)} {abs(times)}%nat"
                lines.append(f"  rewrite ({name} {of}) by (simpl; lra).")
        return [*lines, "  algebra. }", "try rewrite N; clear N."]

    def _sum(self, e: FiniteSum, text: str, printer: OpenedPrinter) -> list[str]:
        """A sum as a combination of sums of monomials, what is independent of the index outside."""
        body, j, over = e.args
        name, inside = printer.within(j)
        split, result = [], []
        for mono, c in sorted(self._poly(body, inside).terms.items(), key=str):
            within = tuple(t for t in mono if name in t[0].indices)
            factor = f"({rational(c)} * {self.normal.mono(tuple(t for t in mono if t not in within))})"
            ((((total, _),), _),) = sum_over(Poly({within: Fraction(1)}), name, over.name).terms.items()
            part = "1"
            if isinstance(total, Total):
                printed = self.normal.letter(total)
                part = f"({printed[printed.index('(fun') : -1]} {name})"
            split.append(f"{factor} * {part}")
            result.append(f"{factor} * {self.normal.letter(total)}")
        return [
            f"assert (N : {text} = {' + '.join(result) or '0'}).",
            f"{{ transitivity (sum {index_set(over)} (fun {name} => {' + '.join(split) or '0'})); cbv beta.",
            f"  {{ apply sum_ext; intros {name}.",
            *_indent(_indent([*self._rewrite([body], inside), "algebra. }"])),
            "  rewrite ?sum_add, ?sum_scale, ?sum_zero; ring. }",
            "try rewrite N; clear N.",
        ]


def _applied(part: Any) -> str:
    text = atom(part.atom)
    for name, transposed in part.word:
        if transposed:
            raise NotExported("the adjoint of a linear map")
        text = f"({name} {text})"
    return text


def _bound(node: Any, printer: OpenedPrinter) -> set[sp.Symbol]:
    """The indices of a node that have no name in the scope at hand."""
    return {s for s in node.free_symbols if isinstance(s, sp.Dummy) and s not in printer.indices}


def _unit(exponents: set[Fraction]) -> Fraction:
    """The greatest rational that all the exponents are integer multiples of."""
    return Fraction(gcd(*[e.numerator for e in exponents]), lcm(*[e.denominator for e in exponents]))


def _indent(lines: list[str]) -> list[str]:
    return ["  " + line for line in lines]
