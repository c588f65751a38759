"""From a network and views of images to the pooled features of every tap, and the cache that keeps them."""
