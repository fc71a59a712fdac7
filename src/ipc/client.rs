//! The web side: OS reader and writer threads over one socket, reconnecting by itself.
