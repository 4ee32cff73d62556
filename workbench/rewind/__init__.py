"""The rewind room: a moment of the store back into a guest, in place or as a clone."""
