"""What was proved of a weight, as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

from projsym.proof.show import explain as chain
from projsym.proof.theorem import Theorem

if TYPE_CHECKING:
    from .attention import OwnAttention


def explained(own: OwnAttention) -> str:
    """Sign, support, merge, the two theorems, and the obligations of the programs built so far."""
    merge = (
        "one exponential: normalised with a running maximum, merged by [IV.1]"
        if own.form.exponential
        else "a plain sum of weights: blocks of keys add up"
    )
    sign = "positive" if own.positivity.strict else "not negative"
    lines = [
        f"weight    {own.positivity.weight}",
        f"sign      {sign}, read off the weight as it is written",
        f"support   {own.positivity.support}",
        f"sums      {merge}; a query saves {own.saves}",
        f"mask      {'every query sees all keys' if own.mask is None else own.mask} [I.10m, I.10w]",
        "",
    ]
    for proof in own.proofs:
        lines += [chain(proof), ""]
    for sources in own.sources.values():
        for target, built in sources.built.items():
            cited = ", ".join(t.id if isinstance(t, Theorem) else t.name for t in built.cited)
            count = f"{len(built.obligations)} obligations proved"
            lines.append(f"{sources.kernel.name} for {target}: {count}; cites {cited}")
            lines += [str(built.program), ""]
    return "\n".join(lines).rstrip()
