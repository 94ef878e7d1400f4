"""A bundle's Triton repositories in a real `tritonserver`: they load unchanged and answer what our sessions answer."""
