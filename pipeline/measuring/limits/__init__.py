"""How far a timing is from the machine's limit: the least work of a graph, against measured peaks."""
