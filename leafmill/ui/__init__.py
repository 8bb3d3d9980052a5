"""The web pages over the ledgers of a runs folder: `leafmill ui`."""
