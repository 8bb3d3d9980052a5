"""What a model will be tested on must not be in what it is trained on."""
