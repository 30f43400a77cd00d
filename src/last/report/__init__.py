"""Pictures of clips and results, and the page that holds them."""
