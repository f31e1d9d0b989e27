"""What the notebooks and make need beyond the library: data, rivals, metrics, figures, claims.

Nothing here is imported by the rest of the package. It needs the extra ``[artifact]``.
"""
