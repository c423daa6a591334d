"""Who may say what is served: signatures, and the rules by which they are believed. No I/O."""
