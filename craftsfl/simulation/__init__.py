"""A whole consortium in one process: real cryptography and messages, no network, no waiting.

What tests, benchmarks and reference runs share, and `craftsfl simulate`. Nothing here protects
anybody: identities can be made from public seeds, and all of them are in one process.
"""
