"""Pictures, charts, pages and text tables of plain values; knows nothing of runs or tables. Imports no torch.

May import ``errors`` and ``files``; everything that shows something to people imports it.
"""
