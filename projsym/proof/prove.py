"""Proving a theorem: steps by the normal form, lines by ball arithmetic, hypotheses by leaving them out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter
from typing import Any

from flint import ctx

from projsym.algebra.decide import Memory, residual
from projsym.algebra.poly import Poly
from projsym.algebra.terms import Vector, ZeroVector
from projsym.algebra.theory import ALGEBRA, Ability, Theory, TheoryError

from . import oracle
from .certificate import negative, sign
from .gibbs import GIBBS
from .hypotheses import Equation, Hypothesis
from .theorem import Certificate, Contradiction, Kind, Lemma, Scaled, Step, Theorem
from .verdict import Checked, ProofError, Proved, Refuted, Unknown, Verdict


@dataclass(frozen=True)
class StepResult:
    """The verdict on one step and the time it took."""

    step: Step
    verdict: Verdict
    milliseconds: float


@dataclass(frozen=True)
class Need:
    """What becomes of a theorem without one of its hypotheses: refuted with a witness, or not proved."""

    hypothesis: Hypothesis
    verdict: Verdict


@dataclass(frozen=True)
class Proof:
    """All that is known about a theorem.

    verdict: ``Proved`` only if the normal form decides every step within the theory of what the step cites
    *and* no line was refuted by ball arithmetic *and* its closing holds. `checked` is that second opinion on
    its own; `closing` is the verdict on a certificate (Proved) or a contraposition (Refuted: the witness at
    which the hypothesis fails), None where a chain has neither.
    """

    theorem: Theorem
    verdict: Verdict
    steps: tuple[StepResult, ...]
    checked: Verdict
    needs: tuple[Need, ...]
    milliseconds: float
    closing: Verdict | None = None


def prove(theorem: Theorem, instances: int = 5) -> Proof:
    """Check every step of a theorem, by both opinions.

    Guarantees of ``Proved``: each line equals the next for every index-set size, every dimension and all
    values that satisfy the hypotheses, wherever both are defined. It cannot see whether the terms say what
    the title says, and it trusts the normal form (which the second opinion and the test-suite's fuzzing
    watch). Cited lemmas are not proved, only tested; see :func:`lemmas`.
    """
    start = perf_counter()
    steps = tuple(_prove_step(s, theorem.given) for s in theorem.steps)
    checked = _check_lines(theorem, instances)
    closing = _close(theorem, instances)
    spent = 1e3 * (perf_counter() - start)
    for lemma in lemmas(theorem):
        lemma.test()
    verdict: Verdict = Proved()
    bad = next((s.verdict for s in steps if not isinstance(s.verdict, Proved)), None)
    if not isinstance(checked, Checked):
        verdict = checked
    elif bad is not None:
        verdict = bad
    elif closing is not None and not isinstance(closing, Refuted if theorem.contradiction else Proved):
        verdict = closing
    needs = tuple(_without(theorem, h) for h in theorem.assumptions)
    return Proof(theorem, verdict, steps, checked, needs, spent, closing)


def lemmas(theorem: Theorem) -> tuple[Lemma, ...]:
    """The results that a theorem cites and that are not proved here."""
    gibbs = (GIBBS,) if theorem.kind is Kind.KL_CERTIFICATE else ()
    return gibbs + ((theorem.conclusion.lemma,) if theorem.conclusion is not None else ())


_READING = Theory(frozenset({Ability.UNIONS, Ability.SOFTMAX}))
"""Enough to represent every term: what the sides of an inequality are compared with the first line by."""


def _close(theorem: Theorem, instances: int) -> Verdict | None:
    if theorem.certificate is not None:
        return _certified(theorem, theorem.certificate, instances)
    if theorem.contradiction is not None:
        return _separated(theorem, theorem.contradiction)
    return None


def _separated(theorem: Theorem, c: Contradiction) -> Verdict:
    """The witness at which first and last line differ, so that the hypothesis cannot hold there."""
    before = ctx.prec
    ctx.prec = oracle.PRECISION
    try:
        witness, _ = oracle.differ(theorem.first, theorem.last, theorem.given, c.at.instance())
    finally:
        ctx.prec = before
    return Refuted(witness) if witness is not None else Unknown("first and last line agree at the witness")


def _certified(theorem: Theorem, c: Certificate, instances: int) -> Verdict:
    """``larger >= smaller``: the difference is the first line, the last line is visibly non-negative."""
    if residual(c.larger.term - c.smaller.term, theorem.first, _READING):
        return Unknown("the first line is not the difference of the two sides of the inequality")
    if not sign(theorem.last):
        return Unknown("the last line is not visibly non-negative")
    witness = negative(theorem.first, theorem.given, instances)
    return Refuted(witness) if witness is not None else Proved()


def require(theorem: Theorem) -> Proof:
    """As :func:`prove`, but ProofError unless the theorem is proved."""
    proof = prove(theorem)
    if not isinstance(proof.verdict, Proved):
        failed = [str(s.step.reason) for s in proof.steps if not isinstance(s.verdict, Proved)]
        raise ProofError(f"{theorem.id} {theorem.title}: {proof.verdict} (steps by: {'; '.join(failed)})")
    return proof


def decide(left: Any, right: Any, given: tuple[Hypothesis, ...] = (), theory: Theory = ALGEBRA) -> Verdict:
    """``left = right`` under hypotheses: ``Proved``, ``Refuted`` with a witness, or ``Unknown``."""
    try:
        rest = residual(oracle.unfold(left, given), oracle.unfold(right, given), _join(theory, given))
    except ZeroDivisionError as e:
        return Unknown(str(e))
    if not rest:
        return Proved()
    witness = oracle.refute(left, right, given)
    return Refuted(witness) if witness is not None else Unknown(rest.key)


def _join(theory: Theory, given: tuple[Hypothesis, ...]) -> Theory:
    for h in given:
        theory = theory | h.theory
    return theory


def step_residual(step: Step, memory: Memory | None = None) -> Poly:
    """What the normal form is left with when a step uses all that it cites; zero: the step is decided.

    Raises ZeroDivisionError or TheoryError where a side cannot be represented.
    """
    cited = step.reason.hypotheses
    left, right = (_unfold(x.term, cited) for x in (step.before, step.after))
    theory = step.reason.theory
    rest = residual(left, right, theory, memory)
    if rest and step.reason.equation is not None:
        rest = _modulo(left, right, step.reason.equation, cited, theory)
    return rest


def _prove_step(step: Step, given: tuple[Hypothesis, ...]) -> StepResult:
    start = perf_counter()
    try:
        rest = step_residual(step)
    except (ZeroDivisionError, TheoryError) as e:
        return StepResult(step, Unknown(str(e)), 1e3 * (perf_counter() - start))
    spent = 1e3 * (perf_counter() - start)
    if not rest:
        return StepResult(step, Proved(), spent)
    witness = oracle.refute(step.before.term, step.after.term, given)
    return StepResult(step, Refuted(witness) if witness else Unknown(rest.key), spent)


@lru_cache(maxsize=64)
def _unfold(term: Any, cited: tuple[Hypothesis, ...]) -> Any:
    for h in cited:
        term = h.rewrite(term)
    return term


def _modulo(left: Any, right: Any, used: Scaled, cited: tuple[Hypothesis, ...], theory: Theory) -> Poly:
    """The residual of ``left - right`` modulo plus or minus ``factor * (equation)``."""
    a, b = (_unfold(x, cited) for x in (used.equation.left, used.equation.right))
    added = residual(left + used.factor * (a - b), right, theory)
    return added and residual(left - used.factor * (a - b), right, theory)


def _check_lines(theorem: Theorem, instances: int) -> Verdict:
    """Ball arithmetic on first against every other line, at instances that satisfy all hypotheses."""
    worst, count = 0.0, 0
    for s in theorem.steps:
        got = oracle.check(theorem.first, s.after.term, theorem.given, instances)
        if not isinstance(got, Checked):
            return got
        worst, count = max(worst, got.worst_radius), got.instances
    return Checked(count, worst)


def _without(theorem: Theorem, dropped: Hypothesis) -> Need:
    rest = tuple(h for h in theorem.given if h != dropped)
    left, right = theorem.first, theorem.last
    if isinstance(dropped, Equation) and isinstance(left, Vector) and isinstance(right, ZeroVector):
        right = ZeroVector(left.space)
    return Need(dropped, decide(left, right, rest))
