"""An answer in, a figure out: the message as title, the numbers as labels."""
