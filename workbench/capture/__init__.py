"""The capture room: a guest's memory, devices and disks of one instant into the store."""
