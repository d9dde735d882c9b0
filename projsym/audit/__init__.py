"""Audit of a real model: every attention head against its folded projection form, with proven error bounds.

from projsym.audit import audit, main_table
report = audit()                     # all-MiniLM-L6-v2, through the `audit` extra
report.to_dict()                     # the JSON contract of `projsym audit --json`
"""

from projsym.audit.report import (
    LEGEND,
    AuditReport,
    EndToEnd,
    HeadReport,
    LayerReport,
    head_table,
    main_table,
)
from projsym.audit.run import audit

__all__ = [
    "LEGEND",
    "AuditReport",
    "EndToEnd",
    "HeadReport",
    "LayerReport",
    "audit",
    "head_table",
    "main_table",
]
