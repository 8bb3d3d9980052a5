"""What a language model says of a row: how hard its answer is to predict, with the prompt and without."""
