"""Networks as printed in the papers: classifiers, auto-encoders, generators, critics, networks inside flows.

May import the ground only; every other method may import it.
"""
