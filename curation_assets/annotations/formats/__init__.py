"""Formats of annotations: one module each, which reads files → :class:`~curation_assets.annotations.said.Said`."""
