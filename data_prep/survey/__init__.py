"""What report.html shows of a prepared folder."""
