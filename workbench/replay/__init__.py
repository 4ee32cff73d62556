"""Go through the past again: find when something came about, and run what was recorded once more.

Refuses to touch the guest: what runs again is a clone.
"""
