"""Looking into trained models: layers, units and the examples that excite them."""
