"""Who may say what is served: signatures, attestations, and the rules by which they are believed.

No I/O, but that the library for attestations reads its roots.
"""
