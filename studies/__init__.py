"""Programs for the committed evidence: pages over several experiments, compact results, benchmarks.

The package does not import them, and works without them.
"""

import boundary

boundary.before_libraries()
