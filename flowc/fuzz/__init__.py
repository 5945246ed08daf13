"""Random recurrences: specs drawn as trees, compiled, and held to step-by-step execution. `flowc fuzz` runs it.

`cases` and `judge` draw inputs and judge an op on them, for the differential tests as well.
"""
