"""What Leafmill itself costs per model call: see README.md here."""
