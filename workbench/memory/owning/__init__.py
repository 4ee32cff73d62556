"""Whose a physical page is: page tables, struct pages, mappings, files and modules, read in bulk with numpy.

Knows bytes and offsets (a `Structures` protocol), never Volatility: so a moment without a sight of its own, the earlier
one of a comparison, is read by the same code. Refuses to follow anything without a bound.
"""
