"""Disks of a moment: which blocks and which files changed, and any file as it was. Reads captures; never a guest.

Read `docs/design.md`, section 10, first. Refuses to write to a capture and to trust a name that a guest made.
"""
