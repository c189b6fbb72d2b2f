"""MisConv, partial convolution, and the stems through which an incomplete image enters a CNN.

May import imputers, densities and the ground; tasks import it.
"""
