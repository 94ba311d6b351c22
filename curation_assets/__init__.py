"""Turn folders of photographs into searchable, curated Delta tables.

The layers, each knowing only those below it: ``defs`` (Dagster) and ``cli`` → ``pipeline`` → ``scan`` and
``embed`` (the two jobs) → ``clip`` (the model) and ``lake`` (Delta tables) → ``images`` (files on disk).
"""

__version__ = "0.1.0"
