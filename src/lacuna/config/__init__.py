"""From the arguments of a command line to one resolved config: composition, checks, help. Imports no torch.

May import the ground (``errors``, ``files``); every package that reads configurations may import it.
"""
