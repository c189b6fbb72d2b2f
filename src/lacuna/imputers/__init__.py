"""Imputers: each fills the missing pixels of incomplete images and leaves the observed ones as they are.

May import densities, flows, nets, data and the ground; layers and tasks import it.
"""
