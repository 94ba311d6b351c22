"""The graph of nearest neighbours of one model version, which duplicates, outliers, clusters and leaks are found by.

``refresh`` brings it in line with the search index that it lies beside, ``stored`` opens it.
"""
