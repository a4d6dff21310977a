"""
The revisions, each after the one before it.
"""
