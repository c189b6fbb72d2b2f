"""What a run is: recipe (its identity), budget, folder, results store, archive, provenance. Trains nothing, no torch.

May import ``data``, ``config`` and the ground; tasks and everything above may import it.
"""
