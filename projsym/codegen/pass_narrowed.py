"""Weights of vectors rounded to the type that these are stored in, for CPUs that multiply such numbers.

A product of two bfloat16 numbers is exact in float32, and some CPUs add two such products at once. A weight
that is rounded for that is off by one unit roundoff of bfloat16 at most. If the weights that a mean is
divided by are the same, rounded numbers, then it is a mean still, of the same vectors with other weights
[IV.5]: where all vectors are alike, so is the result.
"""

from __future__ import annotations

from dataclasses import replace

import sympy as sp

from projsym.codegen.pass_tree import fresh, map_nodes, pair_loop, rebuild
from projsym.codegen.program import Let, Node, Output, Program, Rescale, Sum, narrowed


def narrowed_weights(program: Program) -> Program:
    """Every sum of vectors takes `narrowed` weights, and so does the sum that its output is divided by.

    Scalar outputs keep the sums of weights as they are. Raises ValueError where a sum of vectors has a weight
    that the loop over pairs does not define.
    """
    loop = pair_loop(program)
    lets = {s.name: s for s in loop.body if isinstance(s, Let)}
    sums = [s for s in loop.body if isinstance(s, Sum)]
    weights: dict[sp.Symbol, sp.Symbol] = {}
    for s in sums:
        if s.vector is None or s.weight in weights:
            continue
        if s.weight not in lets:
            raise ValueError(f"narrowed: {s.name} has the weight {s.weight}, which the loop does not define")
        weights[s.weight] = fresh(program, f"{s.weight}_narrow")
    twins = {
        s.name: fresh(program, f"{s.name}_narrow") for s in sums if s.vector is None and s.weight in weights
    }
    body: list[Node] = []
    for node in loop.body:
        match node:
            case Sum(name=name, weight=weight, vector=None) if name in twins:
                body += [node, replace(node, name=twins[name], weight=weights[weight])]
            case Sum(weight=weight) if node.vector is not None:
                body.append(replace(node, weight=weights[weight]))
            case Rescale(sums=scaled):
                body.append(replace(node, sums=(*scaled, *(twins[s] for s in scaled if s in twins))))
            case Let(name=name) if name in weights:
                body += [node, Let(weights[name], "ij", narrowed(name))]
            case _:
                body.append(node)

    def divide(node: Node) -> Node:
        if not (isinstance(node, Output) and node.feature):
            return node
        return replace(node, terms=tuple((c.xreplace(twins), v) for c, v in node.terms))

    changed = rebuild(program.body, loop, (replace(loop, body=tuple(body)),))
    return program.with_(body=map_nodes(changed, divide))
