"""What sources say is on images: a table, what of it counts, and the formats that it is read from."""
