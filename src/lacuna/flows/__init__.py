"""Normalising flows: ACFlow, conditional on observed pixels, and the unconditional RealNVPs of MCFlow and PRFlow.

May import ``nets`` and the ground; imputers and tasks import it.
"""
