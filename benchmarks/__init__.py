"""Our runners beside others' ways to run the same models: `make bench-peers`, and README.md beside this file."""
