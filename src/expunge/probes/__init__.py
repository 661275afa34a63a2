"""Ways to get a style out of a text-to-image model, one file each: they draw pictures, and judges look at them."""
