"""Turn folders of photographs into searchable, curated Delta tables.

The layers, each knowing only those below it:

- ``defs`` (Dagster), ``cli`` and ``commands``, ``gallery`` (the web page and HTTP)
- ``ingest`` (what a whole run does), ``pipeline`` (one configuration put together), ``tables``, ``integrity``
- ``search`` (index, queries, labels, map); ``scan`` and ``embed`` (the two jobs); ``spark`` (tasks on executors)
- ``serving`` (the model over HTTP), ``clip`` (the model)
- ``lake`` (Delta tables); ``images`` (files → facts)
- ``settings``, ``errors``, ``progress``, ``files``: used by all; ``demo``: photographs drawn by code

``docs/design.md`` says what belongs where.
"""

__version__ = "0.1.0"
