"""Labels: what classifiers make of them, and what speaks against them."""
