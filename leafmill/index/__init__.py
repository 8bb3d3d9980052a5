"""The index of a run: what its pages must find fast. A cache beside the ledger, made of it and made anew when it is missing."""
