"""The commands that make documents: notebooks that were run, and the site."""

from __future__ import annotations

import time
from pathlib import Path

import click


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]…")
@click.option("--execute", is_flag=True, help="Run and write: outputs new, metadata in the stored form.")
@click.option("--check", is_flag=True, help="Run and compare all but timings and figures, write nothing.")
@click.option("--folder", default="notebooks", show_default=True, type=click.Path(path_type=Path))
def notebooks(names: tuple[str, ...], execute: bool, check: bool, folder: Path) -> None:
    """Run the notebooks from top to bottom, or list them.

    NAME is the beginning of a file's name (03 selects 03_geometry.ipynb). Without names: all.
    """
    from projsym import notebooks as files

    if execute and check:
        raise click.UsageError("--execute writes and --check does not: choose one")
    try:
        paths = files.find(folder, names)
    except (FileNotFoundError, ValueError) as e:
        raise click.BadParameter(str(e), param_hint="NAME") from e
    good = True
    for path in paths:
        if not (execute or check):
            click.echo(path)
            continue
        start = time.perf_counter()
        try:
            made = files.executed(path)
        except ImportError as e:
            raise click.ClickException(f'{e}; install projsym with the extra "notebooks"') from e
        except RuntimeError as e:
            raise click.ClickException(str(e)) from e
        lines = files.differences(files.read(path), made)
        if execute:
            files.write(made, path)
        good &= execute or not lines
        found = f"{len(lines)} cells changed" if lines else "as stored"
        click.echo(f"{path}  {found}, {time.perf_counter() - start:.0f} s")
        for line in lines:
            click.echo(f"  {line}")
    if not good:
        raise click.exceptions.Exit(1)


@click.command()
@click.option(
    "--out", default="build/book", show_default=True, type=click.Path(path_type=Path, file_okay=False)
)
@click.option(
    "--root",
    default=".",
    show_default=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The checkout, with docs/ and notebooks/.",
)
def book(out: Path, root: Path) -> None:
    """Build the site: notebooks as they were run, how-tos, theorems, API. Needs no network.

    The folder OUT, and OUT with "-source" beside it, are emptied first.
    """
    from projsym.book import build_book

    try:
        page = build_book(root, out)
    except (ModuleNotFoundError, FileNotFoundError, RuntimeError) as e:
        raise click.ClickException(str(e)) from e
    click.echo(f"site: {page}")
