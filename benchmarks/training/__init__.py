"""Times training: the article's script, and ours on the same network."""
