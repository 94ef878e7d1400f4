"""Our server under load, beside a real Triton on the same cores, and what becomes of it when clients misbehave."""
