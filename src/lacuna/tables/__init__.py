"""Tables of results: cells, the graph of runs behind them, and how they are shown."""
