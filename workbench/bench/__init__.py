"""The bench: our figures and those of the peers, measured on the same guest in the same run.

Refuses to judge by one sample: medians, with every sample in the JSON.
"""
