"""What a user types: train, evaluate, impute, reproduce, sweep. One file a verb, and the shell around all of them.

May import every package of lacuna but ``gpu``; nothing below imports a verb.
"""
