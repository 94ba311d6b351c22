"""A file on disk → facts about it: listing, fingerprint, hash, format, EXIF, preview.

Nothing here knows of tables or models.
"""
