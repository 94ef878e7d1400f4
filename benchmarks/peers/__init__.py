"""How others run a model, as backends (pipeline.backends.Backend), so that the harness times them as it does ours.

What a session does is what the library's own documentation shows a user, and nothing better: no I/O binding, no reused
outputs, no tuned threads.
"""
