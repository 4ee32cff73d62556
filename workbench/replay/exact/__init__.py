"""Exact record and replay: a machine run under recording, replayed instruction for instruction as often as wanted.

A launch mode of its own (QEMU's `rr=record|replay`), not something that can be asked of a guest that runs. Refuses
machines that QEMU cannot replay, naming the device or option; a replay that hangs is a result, and its QEMU is ended.
"""
