"""Judging outputs by their tasks: which task each output has, and what two sets of outputs differ in."""
