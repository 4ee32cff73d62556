"""Questions put to captures: worker processes that answer them, answers that are kept, and what answers say over time.

Never heard of memory or disks: a question's name says which desk answers it. Read `docs/design.md`, section 9, first.
"""
