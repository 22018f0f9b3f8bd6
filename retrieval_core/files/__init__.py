"""Files on local disks and object stores: whole-or-absent writing, the Hub, Parquet, stamps, retries, credentials.

This is the lowest floor: it imports nothing else of this package. Begin with ``storage``.
"""
