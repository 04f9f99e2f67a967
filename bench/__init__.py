"""What Attune costs and what it reaches, measured beside others in the same run."""
