"""What a machine with a GPU is to show, in one command and 20 minutes: `make gpu-check`.

`python -m benchmarks.gpu_check` runs without make, without `.venv` and with only what can be imported: what runs the
steps and writes the page imports nothing but Python's own library and the ground of the pipeline.
"""
