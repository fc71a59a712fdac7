//! A disk that loses, tears and reorders what was not synced.
