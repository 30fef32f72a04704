"""What a cell of a table says: a class, a date, a number, or that it is missing."""
