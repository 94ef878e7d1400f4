"""Every way to run a published model, in one list for all stages."""
