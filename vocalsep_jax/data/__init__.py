"""Songs, and how training reads them."""
