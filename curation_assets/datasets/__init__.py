"""From images to a dataset: recipes, splits, versions, and the gate before them."""
