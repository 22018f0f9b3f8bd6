"""Files on local disks and object stores: whole-or-absent writing, Parquet, stamps, retries, credentials in URLs.

This is the lowest floor: it imports nothing else of this package. Begin with ``storage``.
"""
