"""The report: one page for people, and one of text, from the artifacts of a run."""
