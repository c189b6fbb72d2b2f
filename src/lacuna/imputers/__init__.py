"""Imputers: each replaces the missing pixels of incomplete images and returns the observed ones unchanged.

May import densities, flows, nets, data and the ground; layers and tasks import it.
"""
