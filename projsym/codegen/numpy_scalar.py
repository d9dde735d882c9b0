"""Scalar expressions of pairs as NumPy text: one ufunc call a line, into registers.

A register is a view of a buffer that is allocated once; a register whose value is not read again receives the
result, so a block of pairs is worked on in place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import sympy as sp

from projsym.codegen.numpy_infix import FOLDED, UNARY, Names, ordered, plain, reciprocal
from projsym.codegen.program import step


@dataclass
class Operand:
    """Text of an operand; `register` is the buffer it occupies, `dies` that nothing reads it again."""

    text: str
    register: str | None = None
    dies: bool = False


@dataclass
class Registers:
    """Names of pair buffers. `count` is how many were ever alive at once: so many are allocated."""

    free: list[str] = field(default_factory=list)
    count: int = 0

    def take(self) -> str:
        if self.free:
            return self.free.pop()
        self.count += 1
        return f"_x{self.count - 1}"

    def give(self, register: str) -> None:
        self.free.append(register)


@dataclass
class Elementwise:
    """Three-address code for expressions of pairs.

    emit: receives each line. axes_of: the axes of an expression. names: the text of what is not a pair.
    home: pair symbol -> its register.
    """

    emit: Callable[[str], None]
    axes_of: Callable[[sp.Expr], str]
    names: Names
    registers: Registers
    home: dict[sp.Symbol, str] = field(default_factory=dict)
    _uses: Counter[sp.Symbol] = field(init=False, default_factory=Counter)
    _dying: set[sp.Symbol] = field(init=False, default_factory=set)
    _shared: set[sp.Symbol] = field(init=False, default_factory=set)

    def let(self, target: sp.Symbol, value: sp.Expr, dying: set[sp.Symbol]) -> None:
        """`target = value` on pairs; registers of the symbols in `dying` are free afterwards."""
        fresh = (sp.Symbol(f"_cse{i}", real=True) for i in range(10_000))
        shared, (value,) = sp.cse([value], symbols=fresh)
        small = {s: e for s, e in shared if self._axes(e, shared) != "ij"}
        pairs = [(s, _expand(e, small)) for s, e in shared if s not in small]
        value = _expand(value, small)
        self._shared = {s for s, _ in pairs}
        exprs = [e for _, e in pairs] + [value]
        self._uses = Counter(a for e in exprs for a in sp.preorder_traversal(e) if a.is_Symbol)
        self._dying = dying | self._shared
        for s, e in pairs:
            self.home[s] = self._own(self._go(e))
        self.home[target] = self._own(self._go(value))

    def release(self, symbols: Iterable[sp.Symbol]) -> None:
        """The registers of symbols that no later statement reads."""
        for s in ordered(symbols):
            if s in self.home:
                self.registers.give(self.home.pop(s))

    def _axes(self, e: sp.Expr, shared: Sequence[tuple[sp.Symbol, sp.Expr]]) -> str:
        for s, value in reversed(shared):
            e = e.xreplace({s: value})
        return self.axes_of(e)

    def _is_pair(self, e: sp.Expr) -> bool:
        return bool(e.free_symbols & self._shared) or self.axes_of(e) == "ij"

    def _own(self, a: Operand) -> str:
        """The operand in a register of its own."""
        if a.register is not None and a.dies:
            return a.register
        register = self.registers.take()
        self.emit(f"np.copyto({register}, {a.text})")
        return register

    def _go(self, e: sp.Expr) -> Operand:
        if e.is_Symbol and e in self.home:
            self._uses[e] -= 1
            dies = self._uses[e] == 0 and e in self._dying
            register = self.home.pop(e) if dies else self.home[e]
            return Operand(register, register, dies)
        if e.is_Symbol or not self._is_pair(e):
            return Operand(plain(e, self.names))
        if e.is_Add:
            return self._add(e)
        if e.is_Mul:
            return self._mul(e)
        if e.is_Pow:
            return self._pow(e)
        if type(e) in UNARY:
            return self._op(UNARY[type(e)], self._go(e.args[0]))
        if isinstance(e, step):
            return self._op("heaviside", self._go(e.args[0]), Operand("0.0"))
        if type(e) in FOLDED:
            args = self._operands(e.args, type(e))
            result = args[0]
            for a in args[1:]:
                result = self._op(FOLDED[type(e)], result, a)
            return result
        raise ValueError(f"no NumPy form for {type(e).__name__} in {e}")

    def _operands(self, args: Iterable[sp.Expr], func: Callable[..., sp.Expr]) -> list[Operand]:
        """Composite pair operands first (a bare register read early could be overwritten before its use),
        then registers, then what depends on rows or keys only, one operand an axis."""
        pairs = [a for a in ordered(args) if self._is_pair(a)]
        rest = [a for a in ordered(args) if not self._is_pair(a)]
        small: dict[str, list[sp.Expr]] = {}
        for a in rest:
            small.setdefault(self.axes_of(a), []).append(a)
        if "" in small and len(small) > 1:
            host = next(axes for axes in "ij" if axes in small)
            small[host] += small.pop("")
        composite = [a for a in pairs if not a.is_Symbol]
        leaves = [a for a in pairs if a.is_Symbol]
        return [self._go(a) for a in composite + leaves] + [self._go(func(*s)) for s in small.values()]

    def _add(self, e: sp.Expr) -> Operand:
        plus = [a for a in e.args if not (self._is_pair(a) and a.is_Mul and a.args[0] == -1)]
        minus = [-a for a in e.args if a not in plus]
        # A bare register must not be read before a composite operand of the other sign is computed.
        late = [a for a in minus if a.is_Symbol]
        early = [self._go(a) for a in ordered(minus) if not a.is_Symbol]
        ups = self._operands(plus, sp.Add) if plus else []
        downs = early + [self._go(a) for a in ordered(late)]
        result, *ups = ups if ups else [self._op("negative", downs.pop(0))]
        for a in ups:
            result = self._op("add", result, a)
        for a in downs:
            result = self._op("subtract", result, a)
        return result

    def _mul(self, e: sp.Expr) -> Operand:
        below = [r for a in e.args if self._is_pair(a) and (r := reciprocal(a)) is not None]
        above = [a for a in e.args if not (self._is_pair(a) and reciprocal(a) is not None)]
        early = [self._go(r) for r in ordered(below) if not r.is_Symbol]
        ups = self._operands(above, sp.Mul)
        downs = early + [self._go(r) for r in ordered(below) if r.is_Symbol]
        result, *ups = ups if ups else [self._op("reciprocal", downs.pop(0))]
        for a in ups:
            result = self._op("multiply", result, a)
        for a in downs:
            result = self._op("divide", result, a)
        return result

    def _pow(self, e: sp.Expr) -> Operand:
        r = reciprocal(e)
        if r is not None:
            return self._op("reciprocal", self._go(r))
        if e.exp in (2, 4):
            squared = self._op("square", self._go(e.base))
            return squared if e.exp == 2 else self._op("square", squared)
        if e.exp == sp.S.Half:
            return self._op("sqrt", self._go(e.base))
        base, power = self._go(e.base), self._go(e.exp)
        return self._op("power", base, power)

    def _op(self, ufunc: str, *args: Operand) -> Operand:
        owned = [a.register for a in args if a.register is not None and a.dies]
        out = owned[0] if owned else self.registers.take()
        for spare in owned[1:]:
            if spare != out:
                self.registers.give(spare)
        self.emit(f"np.{ufunc}({', '.join(a.text for a in args)}, out={out})")
        return Operand(out, out, True)


def _expand(e: sp.Expr, small: dict[sp.Symbol, sp.Expr]) -> sp.Expr:
    """Put shared subexpressions that are not pairs back: they are cheap, and belong to their axis."""
    while set(small) & e.free_symbols:
        e = e.xreplace(small)
    return e
