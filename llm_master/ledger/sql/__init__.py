"""
The statements of each revision, rendered from ``ledger/migrations``; not written by hand.
"""
