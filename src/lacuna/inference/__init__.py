"""Uses of a trained model: imputations of a user's own images, and metrics on other masks and splits.

May import ``training`` and everything below it; verbs import it.
"""
