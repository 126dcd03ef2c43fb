"""Care of a whole catalog: backup and restore, migrations, moving between backends, verification.

May import everything else of `curation.catalog`; nothing of `curation.catalog` imports it.
"""
