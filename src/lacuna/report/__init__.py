"""How tables and figures look: Markdown, LaTeX, CSV, HTML pages, figures of the papers. Imports no torch.

May import tables, executors and everything below; only search, verbs and scripts import it.
"""
