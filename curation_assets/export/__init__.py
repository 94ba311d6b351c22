"""A version of a dataset → files that others read: one module a format, one protocol (``docs/exports.md``)."""
