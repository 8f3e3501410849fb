"""One of each thing that a package may add to FlowReasoner, a file each. It is no part of the product."""
