"""Examples of different size: axes, schemas, batches, datasets."""
