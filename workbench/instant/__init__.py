"""Memory and disks of one instant together: files as the guest would have read them.

The only room that knows both `workbench.memory` and `workbench.disk`; neither knows the other. Refuses to parse either.
"""
