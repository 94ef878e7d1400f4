"""How a stage is run: what it declares, what it is given, when it is up to date."""
