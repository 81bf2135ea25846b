"""What several parts of the package need and no library has: files written whole, bounded reading of foreign files."""
