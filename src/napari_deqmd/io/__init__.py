"""Files to arrays with axes, voxel size and metadata, and back; provenance."""
