"""Machine: what training and decoding cost, by arithmetic and by measurement."""
