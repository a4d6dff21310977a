"""
The ledger: one row a call and one an attempt, in SQLite and, when asked, in PostgreSQL.
"""
