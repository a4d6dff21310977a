"""
Write the revisions as SQL, which is all that running needs: ``python -m llm_master.ledger.migrations.render``.
"""

from __future__ import annotations

import io
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from llm_master.ledger import migrations, sql

__all__ = ["DIALECTS", "configuration", "rendered", "revisions"]

DIALECTS = ("sqlite", "postgresql")


def configuration() -> Config:
    """Alembic's settings, without a file."""
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    return config


def revisions() -> list[str]:
    """Every revision, oldest first."""
    return [script.revision for script in ScriptDirectory.from_config(configuration()).walk_revisions()][::-1]


def rendered() -> dict[str, str]:
    """The file of each dialect and revision, ``sqlite/0001.sql``, with the statements that lead to it."""
    found = {}
    for dialect in DIALECTS:
        before = "base"
        for revision in revisions():
            config = configuration()
            config.attributes["dialect"] = dialect
            config.output_buffer = written = io.StringIO()
            command.upgrade(config, f"{before}:{revision}", sql=True)
            found[f"{dialect}/{revision}.sql"] = written.getvalue().strip() + "\n"
            before = revision
    return found


def main() -> None:
    """Write the files beside the module that reads them."""
    for name, text in rendered().items():
        path = Path(sql.__file__).parent / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
