"""The web gallery: looking at the images of a lake, searching them, choosing some, and taking the choice along."""
