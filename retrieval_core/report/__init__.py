"""The page people look at: one self-contained HTML file per run."""

from retrieval_core.report.page import (
    Candidate,
    QueryCard,
    Reject,
    RejectCount,
    ReportData,
    StageTime,
    write_report,
)

__all__ = ["Candidate", "QueryCard", "Reject", "RejectCount", "ReportData", "StageTime", "write_report"]
