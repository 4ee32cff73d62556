"""Detectors: what an intruder hides or bends in a kernel and its processes, each finding with its reason and evidence.

A module each, and one that asks them all. Every detector reads structures itself, with bounds, for a plugin that finds
no symbol or breaks off looks like one that found nothing. Refuses that: whoever could not look says so in the frame's
`attrs["error"]`, or fails. What is written in findings as names are the guest's own words, not to be printed raw.
"""
