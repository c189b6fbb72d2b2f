"""Densities: p(missing | observed) as a mixture of factor analysers, predicted by a network (DMFA) or fitted (SMFA).

May import ``data``, ``nets`` and the ground; imputers, layers and tasks import it.
"""
