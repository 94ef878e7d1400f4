"""How long a model takes, and what a timing is worth: clock, processes, rounds, statistics, comparisons."""
