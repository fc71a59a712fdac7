//! Frames: a 4-octet big-endian length, then one postcard message; bounded before allocation.
