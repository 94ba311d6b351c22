"""CLIP: where its weights come from, preprocessing, encoder, the MLflow model and its registry.

Nothing here knows of folders of photographs or of tables. torch is imported only when a vector is computed.
"""
