"""Model -> Recurrence: the normal form of a step, and its class.

In: a checked `Model`. Out: `normalize` gives a `Recurrence`, frozen terms without SymPy, or the `Classification` of a
model that has no normal form, with the span that decides it. Refuses nothing; a `Refusal` inside becomes a class.
"""
