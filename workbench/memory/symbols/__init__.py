"""Symbols of a guest's kernel, made from what lies in its memory: BTF (types) and kallsyms (addresses).

Knows bytes, by the `Memory` protocol, and never captures. Everything read is hostile. Refuses the network and
any symbol package.
"""
