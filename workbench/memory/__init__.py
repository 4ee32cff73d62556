"""Memory of a moment: what ran, since when, and what changed. Reads captures; never touches a guest.

Read `docs/design.md`, section 9, first. Refuses the network, a symbol package and a raw dump.
"""

__all__ = ["PLUGINS"]

PLUGINS = "workbench.plugins"
"""The one question that needs no capture: which plugins there are."""
