"""How fast runs are, alone and several at a time on one card: kinds of steps, a stopwatch, measurements.

May import ``training`` and everything below; ``tables`` and the floors above import it. Kinds of steps and measurements
import no torch.
"""
