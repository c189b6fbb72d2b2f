"""Tasks: what is trained and how it is judged, one LightningModule a file, named after the method in its paper.

May import the methods, ``runs`` and below; ``training`` imports it. What several tasks share is in ``common``.
"""
