"""What the service can be asked to do: one verb a file.

An operation gets what it needs as arguments (the store, the caller, the time), decides with the
pure rooms, and records through the ledger's one append path. It knows no HTTP.
"""
