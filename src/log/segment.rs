//! Frames in a preallocated segment file.
