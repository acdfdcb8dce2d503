"""Robot models, scenes and trained weights: package data, found with `neon_sim.shipped.asset_path`."""
