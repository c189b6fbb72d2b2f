"""What a run is: recipe (its identity), budget, folder, results, archive, provenance. Trains nothing, needs no torch.

May import ``data``, ``config`` and the ground; tasks and everything above may import it.
"""
