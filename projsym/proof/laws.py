"""Named laws: what a step may cite. Each grants abilities of the normal form and no more."""

from __future__ import annotations

from dataclasses import dataclass

from projsym.algebra.theory import Ability, Theory


@dataclass(frozen=True)
class Law:
    """A named law. `statement` is what it says; `abilities` is all that a step citing it may use."""

    name: str
    statement: str
    abilities: frozenset[Ability] = frozenset()

    @property
    def theory(self) -> Theory:
        return Theory(self.abilities)


def _law(name: str, statement: str, *abilities: Ability) -> Law:
    return Law(name, statement, frozenset(abilities))


arithmetic = _law("arithmetic", "field arithmetic and the linear structure of vectors")
bilinearity = _law(
    "bilinearity", "⟨a u + b v, w⟩ = a⟨u, w⟩ + b⟨v, w⟩, and ⟨u, v⟩ = ⟨v, u⟩", Ability.BILINEARITY
)
polarization = _law("polarization", "⟨u, v⟩ = ½(‖u‖² + ‖v‖² − ‖u − v‖²)", Ability.BILINEARITY)
adjoint = _law("adjoint", "⟨u W, v⟩ = ⟨u, v Wᵀ⟩", Ability.ADJOINT)
powers_of_two = _law("powers of two", "2ˣ = exp(x log 2)")
linearity = _law("linearity", "(Σ_j c_j u_j) W = Σ_j c_j (u_j W)")
exponential_law = _law("exponential law", "exp(a + b) = exp(a) exp(b), log(exp a) = a", Ability.EXPONENTIAL)
distributivity = _law(
    "distributivity",
    "Σ_j c a_j = c Σ_j a_j for c independent of j, Σ_j (a_j + b_j) = Σ_j a_j + Σ_j b_j; sums commute",
    Ability.SUMS,
)
disjoint_union = _law(
    "disjoint union", "a sum over I ⊔ J is the sum of the sums", Ability.UNIONS, Ability.SUMS
)
softmax_definition = _law("definition of softmax", "softmax_j a_j = exp(a_j) / Σ_l exp(a_l)", Ability.SOFTMAX)
shift_invariance = _law(
    "shift invariance",
    "softmax_j (a_j + c) = softmax_j a_j for c independent of j",
    Ability.SOFTMAX,
    Ability.EXPONENTIAL,
    Ability.SUMS,
)
hyperbolic = _law("hyperbolic tangent", "tanh x = 1 − 2/(1 + exp 2x)", Ability.HYPERBOLIC)
differentiation = _law(
    "differentiation",
    "sum, product and chain rule; the derivative of the first line is taken before it is shown",
    Ability.BILINEARITY,
    Ability.ADJOINT,
    Ability.EXPONENTIAL,
    Ability.SUMS,
    Ability.SOFTMAX,
)
rows_independent = _law("independence of rows", "what is computed for a query or head uses no other's state")
exact_widening = _law(
    "exact widening",
    "a number of a floating-point format is one of each wider format",
)
fubini = _law("Fubini", "a finite double sum may be taken in either order", Ability.SUMS)

LAWS = {
    law.name: law
    for law in (
        arithmetic,
        bilinearity,
        polarization,
        adjoint,
        linearity,
        powers_of_two,
        exponential_law,
        hyperbolic,
        distributivity,
        disjoint_union,
        softmax_definition,
        shift_invariance,
        differentiation,
        rows_independent,
        exact_widening,
        fubini,
    )
}
