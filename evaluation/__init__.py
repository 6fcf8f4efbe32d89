"""What happened, as CSV files and plots."""
