"""`flowc tune`: configurations of a spec's kernels, searched on a device and written into a table.

In: a `Compilation`, shapes, how much time. Out: rows of a table with what they were found by. Refuses recurrences whose
kernels have nothing to configure.
"""
