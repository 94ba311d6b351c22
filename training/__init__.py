"""Training and evaluation of the small CLIP that ships with the package (``MODEL_SOURCE=demo``).

Not part of the package: nothing in ``curation_assets`` imports it. ``python -m training.train`` makes the weights,
``python -m training.evaluate`` the table of their model card.
"""
