"""What tests of a cluster need, and what stands beside the product: nothing of it imports this.

Deterministic: no clock, no thread, no chance but what is handed in.
"""
