"""The store: cases, captures, blocks. Takes regions of blocks and gives them back; never heard of guests' processes.

Imports only the vocabulary (`model`, `errors`, `progress`). Read `docs/design.md`, section 3, first.
"""

from workbench.store.case import CaseStore
from workbench.store.prune import Pruned, PrunePlan, plan_prune
from workbench.store.transaction import Transaction
from workbench.store.view import CaptureView, RegionFile, RegionView
from workbench.store.writer import Writer

__all__ = [
    "CaptureView",
    "CaseStore",
    "PrunePlan",
    "Pruned",
    "RegionFile",
    "RegionView",
    "Transaction",
    "Writer",
    "plan_prune",
]
