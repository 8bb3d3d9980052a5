"""What can be measured about Leafmill; nothing in the product imports this."""
