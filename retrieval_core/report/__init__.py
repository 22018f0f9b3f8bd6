"""The page people look at: one self-contained HTML file per run."""

from retrieval_core.report.data import (
    Candidate,
    LostFabric,
    QueryCard,
    Reject,
    RejectCount,
    ReportData,
    StageTime,
)
from retrieval_core.report.page import write_report

__all__ = [
    "Candidate",
    "LostFabric",
    "QueryCard",
    "Reject",
    "RejectCount",
    "ReportData",
    "StageTime",
    "write_report",
]
