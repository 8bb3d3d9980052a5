"""Commands on taxonomies: grow, show, check, edit, compare, import."""
