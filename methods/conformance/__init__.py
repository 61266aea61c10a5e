"""The conformance kit: whether a method keeps the contract of `idbench.methods.protocol`."""
