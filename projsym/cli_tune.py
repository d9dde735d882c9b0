"""`projsym tune`: measure register tiles on this machine and use the fastest."""

from __future__ import annotations

import click

from projsym.schedules import DTYPES, PASSES

FEATURES = (32, 64, 96, 128, 256)


@click.command(context_settings={"show_default": True})
@click.option("--pass", "ways", multiple=True, type=click.Choice(PASSES), help="Default: both.")
@click.option("--dtype", "dtypes", multiple=True, type=click.Choice(DTYPES), help="Default: both.")
@click.option(
    "--features", multiple=True, type=click.IntRange(1), default=FEATURES, help="Sizes to measure at."
)
@click.option("--seconds", default=4.0, help="Timing for each pass, dtype and size.")
@click.option("--commit", is_flag=True, help="Write the committed table instead of one's own.")
def tune(
    ways: tuple[str, ...], dtypes: tuple[str, ...], features: tuple[int, ...], seconds: float, commit: bool
) -> None:
    """Measure register tiles for the instruction set in force ($PROJSYM_ISA) and keep the fastest.

    Each tile is compiled, checked against the error bound, and timed in turns with the others on one thread.
    A tile replaces the committed one only where it is faster by 1 % in least time and in median. The table
    goes to the kernel cache, where kernels that are compiled later find it; with --commit, into the package,
    and `projsym generate` must follow.
    """
    from projsym import tune as tuning
    from projsym.runtime import isa

    here = isa.chosen()
    found = {}
    for way in ways or PASSES:
        for dtype in dtypes or DTYPES:
            chosen = {}
            for size in sorted(set(features)):
                chosen[size], times = tuning.measure(way, dtype, size, seconds)
                first, best = times[0], next(t for t in times if t.row == chosen[size])
                gain = 100 * (first.least / best.least - 1)
                click.echo(
                    f"{way} {here} {dtype} d={size}: {best.row[1:]} {best.least * 1e3:.2f} ms, committed "
                    f"{first.row[1:]} {first.least * 1e3:.2f} ms, gain {gain:.1f} %, {len(times)} tiles"
                )
            found[way, here, dtype] = tuning.rows(chosen)
    path = tuning.commit(found) if commit else tuning.keep(found)
    click.echo(f"written: {path}")
