"""What is compared when a model is judged: a module for each kind of model."""
