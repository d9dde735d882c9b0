"""Vectors stored in a narrower type: the pass, what its proof asks, and what of it is committed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from projsym.codegen.c_printer import emit_c
from projsym.codegen.generate import COMMITTED, NARROW, kernels
from projsym.codegen.gradient_kernel import gradient_kernels
from projsym.codegen.kernel import Built
from projsym.codegen.pass_narrowed import narrowed_weights
from projsym.codegen.pass_stored import stored
from projsym.codegen.pass_tree import map_nodes
from projsym.codegen.program import Node, Output, Sum, symbol
from projsym.proof.verdict import ProofError

KERNELS = {k.name: k for k in kernels()}


@pytest.fixture(scope="module")
def built() -> Built:
    return KERNELS["project_gaussian"].build("bfloat16")


def test_the_program_says_what_is_stored(built: Built) -> None:
    for program in (built.program, built.bounded, built.parts):
        assert program is not None
        text = str(program)
        assert "q[i]: d of bfloat16, k[j]: d of bfloat16" in text
        assert "out[i] = bfloat16 of" in text and "lse[i] = (" in text
    assert "exact widening" in [law.name for law in built.cited if hasattr(law, "statement")]
    loads = [o.name for o in built.obligations if "load" in o.name]
    assert len(loads) == 9  # digits, largest and least, of each of the three programs


def test_the_proof_is_that_of_float32_otherwise(built: Built) -> None:
    plain = KERNELS["project_gaussian"].build("float32")
    kept = [o for o in built.obligations if "load" not in o.name and "_narrow" not in o.name]
    # Bound variables are fresh in every proof, so the terms are compared as they are shown.
    assert [str((o.name, o.left, o.right)) for o in kept] == [
        str((o.name, o.left, o.right)) for o in plain.obligations
    ]


def test_rounded_weights_are_those_of_the_vectors_and_of_their_normaliser(built: Built) -> None:
    for program in (built.program, built.bounded, built.parts):
        assert program is not None
        text = str(program)
        assert "w0_narrow[ij] = narrowed(w0)" in text and "s1 += sum_j w0_narrow * k" in text
        assert "s0 += sum_j w0\n" in text and "s0_narrow += sum_j w0_narrow" in text
        out, lse = (
            next(s for s in program.statements() if getattr(s, "name", "") == x) for x in ("out", "lse")
        )
        assert isinstance(out, Output) and isinstance(lse, Output)
        ((coefficient, _),), ((log, _),) = out.terms, lse.terms
        assert "s0_narrow" in str(coefficient) and "narrow" not in str(log)
    assert sum("s0_narrow" in o.name for o in built.obligations) == 8
    assert "narrow" not in str(KERNELS["project_gaussian"].build("float32").program)


def test_weights_that_the_loop_does_not_define_are_refused(built: Built) -> None:
    def renamed(node: Node) -> Node:
        return replace(node, weight=symbol("other")) if isinstance(node, Sum) and node.vector else node

    program = KERNELS["project_gaussian"].lower()
    with pytest.raises(ValueError, match="has the weight other, which the loop does not define"):
        narrowed_weights(program.with_(body=map_nodes(program.body, renamed)))


def test_a_load_that_rounds_is_refuted(built: Built) -> None:
    kernel = KERNELS["project_gaussian"]
    for storage in ("float64", "float32"):
        inputs = tuple(replace(x, storage=storage) if x.feature else x for x in built.program.inputs)
        body = map_nodes(
            built.program.body,
            lambda n, s=storage: replace(n, storage=s) if isinstance(n, Output) and n.feature else n,
        )
        program = built.program.with_(inputs=inputs, body=body)
        if storage == "float32":
            assert kernel.validate(program)
            continue
        with pytest.raises(ProofError, match="float64: load, digits"):
            kernel.validate(program)
    with pytest.raises(ProofError, match="bfloat16 read as 'int8'"):
        kernel.validate(built.program.with_(arithmetic="int8"))


def test_a_pass_that_forgets_what_is_stored_is_caught(built: Built) -> None:
    def forget(node: Node) -> Node:
        return replace(node, storage="") if isinstance(node, Output) else node

    program = built.program.with_(body=map_nodes(built.program.body, forget))
    with pytest.raises(ProofError, match=r"arrays stored as \['', 'bfloat16'\]"):
        KERNELS["project_gaussian"].validate(program)


def test_refused(built: Built) -> None:
    plain = KERNELS["project_gaussian"].lower()
    with pytest.raises(ValueError, match="types must be among bfloat16, float32, float64, got 'int8'"):
        stored(plain, "int8", "float32")
    with pytest.raises(ValueError, match="has a storage type already"):
        stored(built.program, "bfloat16", "float32")
    gradient = next(iter(gradient_kernels())).build("float32").program
    with pytest.raises(ValueError, match="has sums over queries"):
        stored(gradient, "bfloat16", "float32")
    with pytest.raises(ValueError, match="dtype must be 'float32', got 'float64'"):
        emit_c(built.program, "float64")


def test_what_is_committed() -> None:
    files = {p.name.removesuffix("_bfloat16.c") for p in COMMITTED.glob("*_bfloat16.c")}
    assert files == set(NARROW["bfloat16"])
    for name in files:
        text = (COMMITTED / f"{name}_bfloat16.c").read_text()
        plain = (COMMITTED / f"{name}_float32.c").read_text()
        assert "storage     vectors as bfloat16" in text and "STORED" not in plain
