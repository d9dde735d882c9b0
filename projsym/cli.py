"""The command line. A command exits with 0 only if all it shows is proved, checked or refuted as claimed."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from projsym.cli_documents import book, notebooks
from projsym.cli_tune import tune
from projsym.learning.cli import learn

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
as_json = click.option("--json", "json_", is_flag=True, help="Print JSON instead of text.")


def main() -> None:
    """Entry point."""
    cli(prog_name="projsym")


@click.group(context_settings=CONTEXT)
@click.version_option(package_name="projsym")
def cli() -> None:
    """Attention as projection: derive, prove, generate, audit, measure."""


@cli.command()
@click.argument("ids", nargs=-1, metavar="[ID | FILE.py]…")
@as_json
@click.option("--list", "list_", is_flag=True, help="One line for each theorem and refusal.")
@click.option(
    "--coq", type=click.Path(path_type=Path, file_okay=False), help="Write Coq files to this folder instead."
)
@click.option("--compile", "compile_", is_flag=True, help="Let coqc check what --coq writes.")
def derive(ids: tuple[str, ...], json_: bool, list_: bool, coq: Path | None, compile_: bool) -> None:
    """Prove theorems and refute false claims, law by law.

    ID selects theorems or refusals (I.6 also selects I.6c); FILE.py adds the theorems of your own file and
    shows them. Without arguments: everything.

    With --coq, theorems become Coq files, as far as the exporter can, and no proof of ours is shown.
    """
    from projsym.proof import ledger
    from projsym.proof.show import explain, explain_refusal

    if coq is None and compile_:
        raise click.UsageError("--compile goes with --coq")
    if coq is not None and (json_ or list_):
        raise click.UsageError("--coq goes with neither --json nor --list")
    theorems, refusals = _select(ids)
    if coq is not None:
        return _exit(_to_coq(coq, theorems, compile_))
    proofs, refutations = [], []
    for p in ledger.prove_all(theorems):
        proofs.append(p)
        if not json_:
            click.echo(_row(p.theorem.id, p.theorem.title, p.verdict.name) if list_ else explain(p) + "\n")
    for r in ledger.refute_all(refusals):
        refutations.append(r)
        if not json_:
            click.echo(
                _row(r.refusal.id, r.refusal.claim, r.verdict.name) if list_ else explain_refusal(r) + "\n"
            )
    if json_:
        _print_json([ledger.proof_json(p) for p in proofs] + [ledger.refusal_json(r) for r in refutations])
    else:
        proved = sum(p.verdict.name == "proved" for p in proofs)
        refuted = sum(r.good for r in refutations)
        if len(proofs) > 1:
            click.echo(_arguments(proofs))
        claims_ = f"{refuted} of {len(refutations)} false claims refuted"
        click.echo(f"{proved} of {len(proofs)} theorems proved, {claims_}")
    _exit(ledger.all_good(proofs, refutations))


def _arguments(proofs: Sequence[Any]) -> str:
    """How many theorems there are of each kind of argument, and how many rest on a cited lemma."""
    from projsym.proof import ledger
    from projsym.proof.prove import lemmas

    counted = ledger.kinds(p.theorem for p in proofs)
    cited = sum(bool(lemmas(p.theorem)) for p in proofs)
    kinds = ", ".join(f"{n} {kind}" for kind, n in counted.items() if n)
    return f"by argument: {kinds}; {cited} use a cited lemma (tested on instances, not proved here)"


def _to_coq(folder: Path, theorems: Sequence[Any], compile_: bool) -> bool:
    """Write and show what is exported; whether something is, and Coq accepts it if it is asked."""
    from projsym.coq.compile import NoCoq, compile_files
    from projsym.coq.write import BASE, files_of, write

    written = write(folder, theorems)
    for w in written:
        by_hand = f"{w.hand_written} (by hand)" if w.hand_written else ""
        files = ", ".join(filter(None, (w.generated, by_hand)))
        click.echo(f"{w.theorem.id:<12} {files or 'not exported'}{': ' + w.reason if w.reason else ''}")
    names = files_of(written)
    exported = sum(w.generated is not None for w in written)
    click.echo(f"{exported} of {len(written)} theorems exported; {len(names)} files and {BASE} in {folder}")
    if not compile_:
        click.echo("not checked by Coq: use --compile, or coq_makefile -f _CoqProject -o Makefile && make")
        return bool(names)
    good, axioms = True, set()
    try:
        for c in compile_files(folder, names):
            good &= c.good
            axioms |= {a for found in c.assumptions.values() for a in found}
            refused = "refused: rests on " + ", ".join(c.refused) if c.refused else "compiles"
            click.echo(f"{c.file:<24} {c.error or refused}")
    except NoCoq as e:
        raise click.ClickException(str(e)) from e
    click.echo(f"every file compiles; axioms: {', '.join(sorted(axioms))}" if good else "REFUSED by Coq")
    return good and bool(names)


def _row(id: str, title: str, verdict: str) -> str:
    return f"{id:<32} {verdict:<8} {title}"


def _select(ids: Sequence[str]) -> tuple[list[Any], list[Any]]:
    from projsym.proof import ledger
    from projsym.proof.refusal import REFUSALS
    from projsym.proof.theorem import REGISTRY

    names = [i for i in ids if not i.endswith(".py")]
    files = [Path(i) for i in ids if i.endswith(".py")]
    theorems: list[Any] = []
    refusals: list[Any] = []
    if names or not files:
        try:
            theorems, refusals = ledger.select(names)
        except KeyError as e:
            raise click.BadParameter(str(e.args[0]), param_hint="ID") from e
    for file in files:
        before = {*REGISTRY, *REFUSALS}
        try:
            ledger.load_file(file)
        except FileNotFoundError as e:
            raise click.BadParameter(str(e), param_hint="FILE.py") from e
        theorems += [t for i, t in REGISTRY.items() if i not in before]
        refusals += [r for i, r in REFUSALS.items() if i not in before]
    return theorems, refusals


@cli.command()
@click.option("--terms", default=2000, show_default=True, help="Random terms to fuzz with; nightly 20000.")
@click.option("--mutants", default=40, show_default=True, help="Mutants for each theorem at most; 0: all.")
@click.option("--jobs", default=1, show_default=True, help="Processes.")
@click.option("--seed", default=0, show_default=True, help="Another seed gives other terms and mutants.")
@as_json
def soundness(terms: int, mutants: int, jobs: int, seed: int, json_: bool) -> None:
    """Test the proof engine: fuzzing, mutants of every theorem, hypotheses left out, empty chains.

    The exit status is 0 only if nothing was accepted and disproved and no hypothesis is idle.
    """
    from projsym.soundness import examine, summary

    try:
        report = examine(terms, mutants or None, jobs, seed, None if json_ else _note)
    except ValueError as e:
        raise click.UsageError(str(e)) from e
    if json_:
        _print_json(report.as_dict())
    else:
        click.echo(summary(report))
    _exit(report.good)


@cli.command()
@click.option("--check", is_flag=True, help="Compare the committed files, write nothing.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder to write to.")
@click.option("--target", type=click.Choice(["c", "numpy"]), help="Only this language (with --out).")
def generate(check: bool, out: Path | None, target: str | None) -> None:
    """Generate the kernels from the theorems, or compare the committed ones byte for byte."""
    from projsym.codegen import generate as g

    if check:
        if target is not None:
            raise click.UsageError("--check compares all files; --target does not go with it")
        lines = g.differences(out or g.COMMITTED)
        for line in lines:
            click.echo(line)
        click.echo(
            "the command that updates them: projsym generate" if lines else "every file is as generated"
        )
        _exit(not lines)
        return
    if target is not None and out is None:
        raise click.UsageError("--target writes a part of the files; name a folder with --out")
    made = g.write(out or g.COMMITTED, (target,) if target else g.TARGETS)
    proved = [(b.kernel, b.obligations) for b in made.built] + [
        (b.kernel, b.obligations) for b in made.layers
    ]
    for kernel, obligations in {kernel.name: (kernel, given) for kernel, given in proved}.values():
        click.echo(f"{kernel.name:<26} [{kernel.of.id}] {len(obligations)} obligations proved")
    click.echo(f"{len(made.files)} files in {out or g.COMMITTED}")


@cli.command()
@click.argument("model", required=False, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--text", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="A sentence a line."
)
@click.option("--heads", type=int, help="Number of heads, if the model has no config.json.")
@click.option("--by-head", is_flag=True, help="One line a head instead of one a layer.")
@as_json
def audit(model: Path | None, text: Path | None, heads: int | None, by_head: bool, json_: bool) -> None:
    """Audit the attention of a BERT-layout model (.safetensors file or folder) on real text.

    Without MODEL: all-MiniLM-L6-v2 from the `audit` extra.
    """
    from projsym.audit import LEGEND, head_table, main_table
    from projsym.audit import audit as run_audit

    try:
        report = run_audit(model, text, heads=heads, backends=(None, "numpy"))
    except (ImportError, ValueError, FileNotFoundError, KeyError) as e:
        raise click.ClickException(str(e.args[0] if e.args else e)) from e
    if json_:
        _print_json(report.to_dict())
    else:
        _console().print(head_table(report) if by_head else main_table(report))
        click.echo(LEGEND)
    _exit(report.ok)


@cli.command()
@as_json
def claims(json_: bool) -> None:
    """The paper's claims, each with a verdict and the theorems behind it, which are proved now."""
    from projsym.claims import CLAIMS, support

    standing = support()
    good = all(standing.values())
    if json_:
        _print_json([c.as_dict() for c in CLAIMS])
    else:
        table = Table(title="What the paper claims and what holds", show_lines=True)
        for name, ratio in (("claim", 4), ("verdict", 2), ("behind it", 2), ("note", 5)):
            table.add_column(name, ratio=ratio)
        for c in CLAIMS:
            verdict = str(c.verdict) + (f": {c.hypotheses}" if c.hypotheses else "")
            table.add_row(c.claim, verdict, ", ".join(c.theorems) or "–", c.note)
        _console().print(table)
        for id, stands in standing.items():
            if not stands:
                click.echo(f"{id} does not stand: the claims that name it are unsupported")
    _exit(good)


@cli.command()
@click.option("--threads", "threads", multiple=True, type=int, help="Repeat for several; default 1 and 2.")
@click.option("--seconds", default=0.6, show_default=True, help="Timing for each comparison.")
@click.option(
    "--full",
    is_flag=True,
    help="Every size that there is a target for, causal attention and the kernel in NumPy; takes longer.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Also write bench.json, bench.md and figures to this folder.",
)
@as_json
def bench(threads: tuple[int, ...], seconds: float, full: bool, out: Path | None, json_: bool) -> None:
    """Time the kernels against NumPy and, where installed, PyTorch, ONNX Runtime, JAX and Numba.

    On AMD processors PyTorch is measured twice, as it is and with its MKL made to take its fast path. The
    files of --out have the machine, the predicted time of every row, and what may hold a peer back.
    """
    from projsym.bench import FULL, MORE, SHAPES, markdown, result, write

    progress = None if json_ else _note
    data = result(FULL if full else SHAPES, threads or None, seconds, progress, more=MORE if full else None)
    if out is not None:
        for path in write(data, out):
            _note(f"written: {path}")
    if json_:
        _print_json(data["rows"])
    else:
        click.echo(markdown(data))
    _exit(bool(data["rows"]) and all(r["verdict"] == "equal" for r in data["rows"]))


@cli.command()
@click.option("--out", default="build", show_default=True, type=click.Path(path_type=Path, file_okay=False))
@click.option("--quick", is_flag=True, help="Shorter timings; no difference to what is proved or checked.")
@as_json
def reproduce(out: Path, quick: bool, json_: bool) -> None:
    """Derive, prove, generate, compile, check, audit, measure, report: everything, from the symbols on."""
    from projsym.reproduce import reproduce as run
    from projsym.reproduce import summary_table

    data = run(out, quick=quick, quiet=json_)
    if json_:
        _print_json(data)
    else:
        _console().print(summary_table(data))
        click.echo(f"report: {out / 'report.html'} and {out / 'report.json'}")
    _exit(all(s["good"] for s in data["summary"]))


for command in (notebooks, book, learn, tune):
    cli.add_command(command)


def _note(line: str) -> None:
    click.echo(line, err=True)


def _print_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False))


def _console() -> Console:
    """A terminal's own width, 140 columns when piped."""
    return Console(width=None if sys.stdout.isatty() else 140)


def _exit(good: bool) -> None:
    if not good:
        raise click.exceptions.Exit(1)


if __name__ == "__main__":
    main()
