"""PyTorch as it could be on AMD processors: its MKL takes its fast path if one function answers 1.

The function must be there before MKL is loaded, so a process of its own runs the rows, with the library
preloaded. Nothing of PyTorch is changed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from projsym.bench.environment import mkl_on_amd
from projsym.bench.rows import IN_NUMPY, Row, Shape
from projsym.runtime.cache import compiled
from projsym.runtime.compiler import find

PEER = "torch, MKL fixed"
_SOURCE = "int mkl_serv_intel_cpu_true(void) { return 1; }\n"
_CODE = """\
import json, sys
from pathlib import Path
from projsym.bench import Shape, run
shapes, threads, seconds, folder, more = json.loads(sys.argv[1])
more = {kernel: [Shape(*s) for s in found] for kernel, found in more.items()}
rows = run([Shape(*s) for s in shapes], threads, seconds, peers=["torch"], gates=Path(folder), more=more)
print(json.dumps([r.as_dict() for r in rows]))
"""


def rows(
    shapes: Iterable[Shape],
    threads: Iterable[int],
    seconds: float,
    gates: Path,
    more: Mapping[str, Iterable[Shape]] | None = None,
) -> list[Row]:
    """Rows as `projsym.bench.run` gives them, against `PEER`, our times measured again beside it.

    The kernel in NumPy is compared with PyTorch as it is installed, and has none here. None at all on
    processors or builds that need no fix. Raises CompilerError without a compiler and RuntimeError, with what
    it printed, if the process fails.
    """
    if not mkl_on_amd():
        return []
    library = compiled(_SOURCE, "mkl_on_amd", (), find())
    further = {kernel: _plain(found) for kernel, found in (more or {}).items() if kernel != IN_NUMPY}
    request = json.dumps([_plain(shapes), list(threads), seconds, str(gates), further])
    preload = " ".join(x for x in (str(library), os.environ.get("LD_PRELOAD", "")) if x)
    done = subprocess.run(
        [sys.executable, "-c", _CODE, request],
        env=os.environ | {"LD_PRELOAD": preload},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"the rows of {PEER} failed:\n{done.stderr}")
    return [_row(x) for x in json.loads(done.stdout)]


def _plain(shapes: Iterable[Shape]) -> list[tuple[int | str, ...]]:
    return [(*s.sizes, s.dtype) for s in shapes]


def _row(data: dict[str, Any]) -> Row:
    # JSON has no infinity: a bound or error that was one came as None.
    whole = {
        k: float("inf") if v is None and k.endswith(("err", "err_bound")) else v for k, v in data.items()
    }
    return Row(**(whole | {"shape": tuple(data["shape"]), "peer": PEER}))
