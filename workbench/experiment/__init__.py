"""The experiment room: clones of one moment, A against B, the same work in each, and what came of it."""
