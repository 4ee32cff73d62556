"""The bench: our figures and those of the peers, measured on the same guest in the same run.

Refuses to judge by one sample: medians and 95th percentiles, with every sample in the JSON. Refuses to leave out a peer
that cannot run: its reason stands in its place.
"""
