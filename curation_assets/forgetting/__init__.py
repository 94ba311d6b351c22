"""Images that have to go for good: out of every table and its history, and out of all that was made of them."""
