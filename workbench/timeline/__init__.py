"""Choose a moment: from what a user asks for to one capture, and the history as a table.

Imports the store and the vocabulary. Read `docs/design.md`, section 4.
"""

from workbench.timeline.history import Branch
from workbench.timeline.timeline import Timeline

__all__ = ["Branch", "Timeline"]
