"""Images put on sides: what belongs together, what stands in an order, shares, and what it costs."""
