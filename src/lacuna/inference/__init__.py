"""What a trained model says of images that somebody has.

May import ``training`` and everything below it; verbs import it.
"""
