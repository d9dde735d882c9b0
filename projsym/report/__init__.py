"""The report of a run: `report.json` for programs and `report.html`, one self-contained page, for people."""

from projsym.report.write import write_report

__all__ = ["write_report"]
