"""Reports: what a run did, as a page in one file and as tables in a terminal."""

from evodiff.reporting.comparison import write_comparison
from evodiff.reporting.diagram import diagram_svg
from evodiff.reporting.images import save_grid
from evodiff.reporting.ledger_view import random_arm_from_ledger, view_from_ledger
from evodiff.reporting.report import write_report
from evodiff.reporting.tables import comparison_table, front_table, leaderboard_table
from evodiff.reporting.view import (
    CandidateView,
    Floor,
    GenerationView,
    ImagesView,
    LatencyCheck,
    MemorisationView,
    NearestPair,
    ObjectiveView,
    ProgressPoint,
    RandomArm,
    ReferenceView,
    RetrainedView,
    RunView,
    TrialView,
    ValidationMetric,
)

__all__ = [
    "CandidateView",
    "Floor",
    "GenerationView",
    "ImagesView",
    "LatencyCheck",
    "MemorisationView",
    "NearestPair",
    "ObjectiveView",
    "ProgressPoint",
    "RandomArm",
    "ReferenceView",
    "RetrainedView",
    "RunView",
    "TrialView",
    "ValidationMetric",
    "comparison_table",
    "diagram_svg",
    "front_table",
    "leaderboard_table",
    "random_arm_from_ledger",
    "save_grid",
    "view_from_ledger",
    "write_comparison",
    "write_report",
]
