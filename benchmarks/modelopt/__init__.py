"""Our typed graphs beside those of NVIDIA's Model Optimizer: `make bench-modelopt`, and ../README.md."""
