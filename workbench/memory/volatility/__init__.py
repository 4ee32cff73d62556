"""Volatility 3 on captures; nothing else of ours imports it. Only for worker processes: its state is global.

Volatility's licence (VSL 1.0) reaches what wraps its output, so all of that lies here; see NOTICE.
"""
