"""Triggers: what asks for a capture by itself, and what keeps it from asking too often.

A *source* turns what it sees (a line from the guest, an event of QEMU, a word on the console, a measurement, an alert)
into an `Event`; a *gate* decides whether an event is worth a capture. Both are pure: nobody here touches a guest or a
case, so that a flood of events costs a dictionary look-up each. Refuses to believe a guest: names and texts are cut.
"""
