"""Songs and the samples of them that training takes: from stems on disk to patches on the devices."""
