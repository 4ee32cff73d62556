"""The trial room: a guest itself taken back with a change applied, kept only if somebody says so in time."""
