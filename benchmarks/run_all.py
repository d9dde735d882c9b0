"""Every measurement, one after the other, into a dated folder.

    python benchmarks/run_all.py [--out FOLDER] [--only bench layer …]

Writes `bench.json`, `bench.md` and figures as `projsym bench --full --out` does, the table of `targets.py` as
`targets.md`, and what every other script here prints as `NAME.txt`, under the date, the machine and the
versions. By default the folder is `benchmarks/DATE-MACHINE-INSTRUCTIONS`.
Nothing else should run meanwhile; stops at the first script that fails.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import subprocess
import sys
from pathlib import Path

from projsym.bench.environment import environment

HERE = Path(__file__).resolve().parent
BENCH = "bench"
TARGETS = "targets"
SCRIPTS = sorted({p.stem for p in HERE.glob("*.py")} - {Path(__file__).stem, TARGETS})


def header() -> str:
    """The date, the machine, versions, and what may hold a peer back."""
    e = environment()
    versions = ", ".join(f"{name} {version}" for name, version in e["packages"].items())
    lines = [
        f"{datetime.date.today().isoformat()}; {e['cpu']}, {e['cpus']} CPUs; {e['compiler']}",
        f"{e['instructions']}; Python {e['python']}; {versions}",
        *(f"note: {note}" for note in e["notes"]),
    ]
    return "\n".join(lines) + "\n\n"


def folder() -> Path:
    """`DATE-MACHINE-INSTRUCTIONS` beside this file: machines of unlike instructions may have one name."""
    e = environment()
    machine = re.sub(r"[^a-z0-9]+", "-", f"{e['cpu']} {e['instructions']}".lower()).strip("-")
    return HERE / f"{datetime.date.today().isoformat()}-{machine}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="by default benchmarks/DATE-MACHINE-INSTRUCTIONS")
    parser.add_argument("--only", nargs="+", choices=[BENCH, *SCRIPTS], default=[BENCH, *SCRIPTS])
    chosen = parser.parse_args()
    out: Path = chosen.out or folder()
    out.mkdir(parents=True, exist_ok=True)
    # The variable makes NumPy's OpenBLAS run another CPU's kernels: a peer would be held back.
    free = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    for name in chosen.only:
        print(name, flush=True)
        if name == BENCH:
            command = [sys.executable, "-m", "projsym.cli", "bench", "--full", "--out", str(out)]
            subprocess.run(command, env=free, check=True, stdout=subprocess.DEVNULL)
            command = [sys.executable, str(HERE / f"{TARGETS}.py"), str(out)]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            (out / f"{TARGETS}.md").write_text(done.stdout, encoding="utf-8")
            continue
        command = [sys.executable, str(HERE / f"{name}.py")]
        done = subprocess.run(command, env=free, check=True, stdout=subprocess.PIPE, text=True)
        (out / f"{name}.txt").write_text(header() + done.stdout, encoding="utf-8")


if __name__ == "__main__":
    main()
