"""What a sample teaches besides plain steps: labels that may turn, users' covariances, masked copies."""
