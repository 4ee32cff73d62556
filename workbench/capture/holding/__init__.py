"""Holding a guest that panicked, or whose watchdog fired, until it was captured; then it goes as it would have gone.

Only what QEMU and libvirt can hold: shutdowns and resets are not among it (design, 12.8). Refuses to leave a guest
held: a process that outlives the recorder lets it go.
"""
