"""
How the ledger's tables came to be, for SQLite and PostgreSQL: Alembic's revisions, and what is rendered from them.

Only who changes the tables needs SQLAlchemy and Alembic. What runs executes the files in ``ledger/sql``, which
``python -m llm_master.ledger.migrations.render`` writes.
"""
