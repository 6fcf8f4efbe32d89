"""What an experiment's files say: statistics, the answer, tables, figures, and the page."""
