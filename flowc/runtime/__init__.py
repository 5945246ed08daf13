"""Artifact -> callable: the loaded module, kept in a cache, as a user holds it.

In: a spec as a path or text, and options. Out: `compile` gives an `Op`. Refuses what the compiler refuses (FlowError,
ValueError) and, at a call, arguments that do not fit (TypeError, ValueError).
"""
