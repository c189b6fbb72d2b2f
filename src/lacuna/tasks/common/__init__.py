"""What several tasks share: models from recipes, running means, held-out pixels, losses of GANs, FID of samples.

May import the methods, ``runs`` and below, and ``tasks.base``; tasks import it.
"""
