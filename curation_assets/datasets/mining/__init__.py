"""Mining: of images that nobody labelled those that help most where a model fails."""
