"""From a verified run to a bundle that can be put anywhere: its files, its signature, and what other servers need.

`bundle.opened` is what every user of a bundle begins with: nothing of it is loaded before every byte was checked.
"""
