"""What makes the committed evidence: pages over several experiments, compact results, benchmarks.

The package does not import it, and needs none of it to be used.
"""

import boundary

boundary.before_libraries()
