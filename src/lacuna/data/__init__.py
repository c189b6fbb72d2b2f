"""Image sources, mask schemes, incomplete data sets and their loaders.

May import ``config`` and the ground; every package from ``runs`` upwards may import it.
"""
