"""The hospital's resident, network-facing process: Flower's Fleet API on one side, a socket on the
other.

`fleet` alone knows Flower's inside; `courier` carries messages; `desk` tells the hospital what
happens. Nothing here imports torch or any package of the agent's.
"""
